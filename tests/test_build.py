import json
import subprocess
import sys

import pytest

from locvlm.build import main


@pytest.fixture
def instances(tmp_path):
    file = tmp_path / "instances, (1).json"
    categories = [{"id": n, "name": name} for n, name in enumerate("abcd")]
    annotations = [{"image_id": 1, "category_id": n} for n in (0, 1)]
    images = [{"id": 1, "file_name": "1.jpg"}]
    tables = {"images": images, "annotations": annotations, "categories": categories}
    file.write_text(json.dumps(tables))
    return file


def test_prepare_writes_the_questions_and_says_how_many(instances, tmp_path):
    output = tmp_path / "hal.json"
    command = [sys.executable, "-m", "locvlm.prepare", "benchmark=hal"]
    given = [f"instances={instances}", f"output={output}"]
    done = subprocess.run([*command, *given], capture_output=True, text=True, check=True)
    assert [record["label"] for record in json.loads(output.read_text())] == [
        *["yes"] * 2,
        *["no"] * 2,
    ]
    assert "questions" in done.stdout


def test_a_file_that_is_there_stays(instances, tmp_path, capsys):
    output = tmp_path / "hal.json"
    output.write_text("mine")
    arguments = ["benchmark=hal", f"instances={instances}", f"output={output}"]
    with pytest.raises(SystemExit):
        main(arguments)
    assert output.read_text() == "mine"
    assert "overwrite=true" in capsys.readouterr().err
    main([*arguments, "overwrite=true"])
    assert len(json.loads(output.read_text())) == 4


def test_help_names_the_benchmarks(capsys):
    main(["--help"])
    assert "one of" in (out := capsys.readouterr().out)
    assert "hal" in out
