import json
from pathlib import Path

import pytest

from locvlm.errors import ConfigError
from locvlm.evaluation.answers import match
from locvlm.evaluation.benchmarks.region_description import RegionDescription
from locvlm.evaluation.metrics import java
from locvlm.predictors.ask import loaded
from locvlm.types import Box
from tests.evaluation.conftest import answered, values

pytest.importorskip("pycocoevalcap")

PROMPTS = ["What is at location {location} in image?"]


@pytest.fixture
def benchmark(refcoco):
    return RegionDescription(refcoco(verbatim=True), PROMPTS, tokenizer="plain")


def score(benchmark, *texts):
    by_id = dict(zip(["1/0", "1/1"], texts, strict=True))
    answers = answered(benchmark.questions(), lambda question: by_id[question.meta["id"]])
    return benchmark.score(answers, None)


def test_each_object_is_asked_about_by_its_box(benchmark):
    asked = benchmark.questions()
    assert [question.messages[-1].parts for question in asked] == [
        ("What is at location ", Box(2, 3, 12, 8), " in image?"),
        ("What is at location ", Box(20, 3, 30, 8), " in image?"),
    ]
    assert asked[0].meta["references"] == ["left cat", "The cat is asleep."]


def test_images_are_read_when_they_are_asked_about(benchmark):
    first, second = benchmark.questions()
    assert first.sample is second.sample
    assert first.sample.image is None
    assert loaded([first])[0].sample.size == (40, 30)


def test_the_frame_of_an_answer_is_taken_off_and_the_raw_answer_stands_beside(benchmark):
    found = score(benchmark, "There is a left cat.", "right cat")
    bare = score(benchmark, "left cat", "right cat")
    key = "region_description.cider_plain"
    assert values(found)[key] == values(bare)[key] != values(found)[f"{key}_raw"]
    assert [item.score for item in found.items] == [item.score for item in bare.items]


def test_items_show_the_box_that_was_asked_about(benchmark):
    item = score(benchmark, "left cat", "\x00|||").items[1]
    assert item.wanted == "right cat / left cat"
    assert (item.marks[0].role, item.marks[0].location) == ("asked", Box(20, 3, 30, 8))
    assert item.outcome == "no word matches"


def test_what_was_left_out_is_counted_and_the_files_are_named(benchmark, tmp_path):
    assert score(benchmark, "a", "b").counts == {
        "images": 1,
        "left out: image file is missing": 1,
    }
    assert [Path(file).name for file in benchmark.files] == ["refs(unc).p", "instances.json"]
    assert benchmark.protocol["split"] == "testB"


def test_recorded_answers_are_read_by_image_and_number(benchmark, tmp_path):
    file = tmp_path / "answers.jsonl"
    file.write_text(json.dumps({"id": "1/1", "text": "right cat"}))
    matched = match(benchmark.questions(), benchmark.read_answers(file))
    assert [answer.text for answer in matched.answers] == ["right cat"]


def test_mdetrs_files_are_asked_about_in_the_same_way(benchmark, mdetr):
    theirs = RegionDescription(mdetr(verbatim=True), PROMPTS, tokenizer="plain")
    assert theirs.protocol["split"] == "finetune_refcoco_testB"
    said = [question.messages[-1].parts for question in theirs.questions()]
    assert said == [question.messages[-1].parts for question in benchmark.questions()]


def test_missing_java_is_known_before_the_model_is_asked(refcoco, monkeypatch):
    monkeypatch.setattr(java, "which", lambda name: None)
    with pytest.raises(ConfigError, match="tokenizer=plain"):
        RegionDescription(refcoco(), PROMPTS)


@pytest.mark.slow
@pytest.mark.usefixtures("java_programs")
def test_with_java_there_are_both_metrics_of_both_forms(refcoco):
    found = score(RegionDescription(refcoco(), PROMPTS), "There is a left cat.", "a dog")
    metrics = values(found)
    assert list(metrics) == [
        f"region_description.{key}" for key in ("meteor", "cider", "meteor_raw", "cider_raw")
    ]
    assert metrics["region_description.meteor"] > metrics["region_description.meteor_raw"] > 0
