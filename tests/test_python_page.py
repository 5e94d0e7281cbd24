"""What docs/python.md shows runs as it stands there."""

import re
import shutil
from pathlib import Path

from locvlm.data import Quarantine, write_shards
from tests.data.conftest import annotated
from tests.tiny import make_sample

PAGE = (Path(__file__).parents[1] / "docs" / "python.md").read_text()


def test_the_blocks_of_the_page_run_one_after_the_other(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(checkpoint, tmp_path / "runs" / "scenes_demo-0" / "model")
    Path("photo.png").write_bytes(make_sample().image)
    write_shards(map(annotated, range(4)), Path("shards/mine"), quarantine=Quarantine())
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        exec(compile(block, "docs/python.md", "exec"), names)
    assert names["trainer"].global_step == 2
    assert Path("runs/notebook/model/config.json").is_file()
    assert Path("drawn.png").is_file()
    assert names["given"]["pixel_values"].shape[1:] == (3, 32, 32)
