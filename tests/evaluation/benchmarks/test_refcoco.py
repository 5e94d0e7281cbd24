import json
import subprocess
import sys
from importlib import import_module

import pytest
from hydra import compose, initialize_config_module
from hydra.utils import instantiate

from locvlm.dialects import shikra
from locvlm.errors import ConfigError, DataError
from locvlm.evaluation.answers import match
from locvlm.evaluation.benchmarks.refcoco import RefCoco, chosen
from locvlm.predictors.ask import loaded
from locvlm.score import main
from locvlm.types import Box
from tests.evaluation.conftest import answered, locate, values

PROMPTS = ["Where is the object described {category} located in image in terms of {repr}?"]
REAL = "refcoco/testA_refcoco_unc_dets_2images.json"


def records(*more):
    """Expressions about two images of 100 x 100 pixels."""
    boxes = [[10, 10, 20, 20], [10, 10, 20, 20], [50, 50, 20, 20]]
    size = {"width": 100, "height": 100}
    return [
        {"sent": f"cat {n}", "gt_box": box, "image": f"{n // 2}.png", **size, **extra}
        for n, (box, extra) in enumerate(zip(boxes, more or [{}] * 3, strict=True))
    ]


@pytest.fixture
def file(tmp_path):
    def write(rows, name="expressions.json"):
        (tmp_path / name).write_text(json.dumps(rows))
        return tmp_path / name

    return write


def scored(benchmark, file):
    answers = match(benchmark.questions(), benchmark.read_answers(file)).answers
    return benchmark.score(answers, benchmark.read)


@pytest.mark.parametrize("which", ["first", "last", "largest", "best"])
def test_agrees_with_pycocotools_on_real_proposals(real_data, which):
    found = values(scored(RefCoco(PROMPTS, real_data / REAL, which=which), real_data / REAL))
    expected = json.loads((real_data / "expected" / "expected.json").read_text())["refcoco_boxes"]
    assert found["refcoco.acc_at_0_5"] == expected[f"acc_at_0.5_{which}_proposal"]
    mean = {"first": 0, "last": -1}
    rows = expected["rows"]
    each = [row["iou"][mean.get(which, row.get(f"{which}_proposal"))] for row in rows]
    assert found["refcoco.mean_iou"] == pytest.approx(sum(each) / len(each), abs=1e-9)


@pytest.mark.parametrize("keys", [("expressions",), ("answers",), ("expressions", "answers")])
def test_the_command_takes_one_file_by_either_key(real_data, capsys, keys):
    main(["benchmark=refcoco", "which=best", *(f"{key}={real_data / REAL}" for key in keys)])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures["acc_at_0_5"] == 0.75
    assert figures["mean_iou"] == pytest.approx(0.6750973614548501)
    assert figures["n"] == 20


def test_no_box_is_wrong_and_counted(file):
    path = file(records({"pred_box": [10, 10, 20, 20]}, {"pred_boxes": []}, {"pred_box": "?"}))
    found = scored(RefCoco(PROMPTS, path), path)
    assert values(found)["refcoco.acc_at_0_5"] == pytest.approx(1 / 3)
    assert values(found)["refcoco.mean_iou"] == pytest.approx(1 / 3)
    assert values(found)["refcoco.parse_failures"] == pytest.approx(2 / 3)
    assert [item.outcome for item in found.items] == ["found", *["no readable box"] * 2]
    assert found.counts == {"images": 2}


def test_an_overlap_of_a_half_is_enough(file):
    path = file(
        records(
            *[{"pred_box": [10, 10, 20, 10]}, {"pred_box": [10, 10, 20, 9.9]}, {}][:2],
            {"pred_box": [0, 0, 1, 1]},
        )
    )
    found = scored(RefCoco(PROMPTS, path), path)
    assert [item.outcome for item in found.items] == ["found", "missed", "missed"]


def test_recorded_texts_are_read_in_their_dialect(file, capsys):
    truth = file(records())
    texts = ["[0.100,0.100,0.300,0.300]", "It is nowhere.", "at [0.5,0.5,0.7,0.7], I think"]
    answers = file([{"id": n, "text": text} for n, text in enumerate(texts)], "answers.json")
    found = scored(RefCoco(PROMPTS, truth, dialect=shikra()), answers)
    assert [item.score for item in found.items] == pytest.approx([1, 0, 1])
    main(["benchmark=refcoco", f"expressions={truth}", f"answers={answers}", "dialect=shikra"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["mean_iou"] == pytest.approx(2 / 3)


def test_texts_need_a_dialect_and_the_size_of_their_image(file):
    answers = file([{"id": 0, "text": "[0.1,0.1,0.3,0.3]"}], "answers.json")
    with pytest.raises(ConfigError, match="many ways"):
        scored(RefCoco(PROMPTS, file(records())), answers)
    rows = [{key: row[key] for key in ("sent", "gt_box")} for row in records()]
    with pytest.raises(DataError, match="without the size") as error:
        scored(RefCoco(PROMPTS, file(rows), dialect=shikra()), answers)
    assert "expression '0'" in error.value.where


def test_the_config_of_evaluate_reads_refcocos_own_files(refcoco, tmp_path):
    import_module("locvlm.evaluate")  # registers the schema
    files = [
        f'benchmark.source.refs="{tmp_path / "refs(unc).p"}"',
        f"benchmark.source.instances={tmp_path / 'instances.json'}",
        f"benchmark.source.images={tmp_path / 'train2014'}",
        "benchmark.source.split=testB",
    ]
    for name, n in (("refcoco", 4), ("region_description", 2)):
        more = ["source@benchmark.source=refcoco"]
        more += ["benchmark.tokenizer=plain"] if name == "region_description" else []
        with initialize_config_module("locvlm.conf", version_base="1.3"):
            cfg = compose("evaluate", ["checkpoint=x", f"benchmark={name}", *more, *files])
        assert len(instantiate(cfg.benchmark).questions()) == n


def test_a_model_is_asked_for_every_expression_of_a_split(refcoco):
    benchmark = RefCoco(PROMPTS, source=refcoco())
    asked = benchmark.questions()
    assert [question.meta["name"] for question in asked] == [
        "left cat",
        "cat that is asleep",
        "right cat",
        "left cat",
    ]
    assert "left cat" in asked[0].messages[-1].parts[0]
    assert asked[0].sample.image is None
    assert loaded(asked[:1])[0].sample.size == (40, 30)
    assert benchmark.protocol["split"] == "testB"


def test_expressions_that_fit_two_objects_count_and_the_unique_ones_stand_beside(refcoco):
    benchmark = RefCoco(PROMPTS, source=refcoco())
    # On images of 40 x 30 pixels a bin is 0.4 x 0.3 of them.
    first = answered(benchmark.questions(), lambda question: "[5, 10, 30, 26]")
    found = benchmark.score(first, lambda answer: locate(answer.text, (40, 30)))
    assert values(found)["refcoco.acc_at_0_5"] == 0.5
    assert values(found)["refcoco.acc_unique"] == 0.5
    assert found.counts == {"images": 1, "left out: image file is missing": 1}


def test_a_file_of_expressions_can_be_asked_about_with_its_images(file, tmp_path):
    (tmp_path / "0.png").touch()
    benchmark = RefCoco(PROMPTS, file(records()), images=tmp_path)
    assert [question.image for question in benchmark.questions()] == [str(tmp_path / "0.png")] * 2


def test_without_expressions_there_is_nothing_to_ask():
    with pytest.raises(ConfigError, match="no expressions"):
        RefCoco(PROMPTS)
    with pytest.raises(ConfigError, match="no box called 'any'"):
        RefCoco(PROMPTS, which="any")


def test_which_box_counts():
    true = Box(0, 0, 10, 10)
    boxes = [Box(50, 50, 60, 60), Box(0, 0, 90, 90), Box(1, 1, 10, 10), Box(70, 70, 71, 71)]
    names = ("first", "largest", "best", "last")
    assert [chosen(boxes, true, which) for which in names] == boxes
    assert chosen([], true, "best") is None


def test_scoring_recorded_boxes_needs_no_torch(file):
    path = file(records(*[{"pred_box": [1, 2, 3, 4]}] * 3))
    code = (
        "import sys; from locvlm.score import main; main(sys.argv[1:]); "
        "assert not {'torch', 'transformers', 'matplotlib'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, "benchmark=refcoco", f"answers={path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_command_reads_a_source_for_recorded_answers(refcoco, tmp_path, file, capsys):
    refcoco()
    answers = file([{"id": "1/0/0", "pred_box": [2, 3, 10, 5]}], "answers.json")
    main(
        [
            "benchmark=refcoco",
            "source=refcoco",
            f"source.refs={tmp_path / 'refs(unc).p'}",
            f"source.instances={tmp_path / 'instances.json'}",
            f"source.images={tmp_path / 'train2014'}",
            "source.split=testB",
            f"answers={answers}",
        ]
    )
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["acc_at_0_5"] == 1
