import json
from dataclasses import replace
from math import exp, inf, log

import pytest
from PIL import Image

from locvlm.errors import DataError
from locvlm.evaluation.benchmarks.coco_spatial import CocoSpatial
from locvlm.evaluation.benchmarks.localization import Localization
from locvlm.evaluation.benchmarks.pope import Pope
from locvlm.evaluation.benchmarks.suite import Suite
from locvlm.evaluation.benchmarks.vqav2 import Vqav2
from locvlm.evaluation.run import confidence, run_benchmark
from locvlm.io import sha256
from locvlm.predictors.ask import Answer
from locvlm.predictors.recorded import Recorded
from locvlm.report.html import render_page
from tests.evaluation.benchmarks.test_sides import PART
from tests.evaluation.benchmarks.test_suite import Given
from tests.evaluation.conftest import locate

PROMPTS = ["Where is {category} in terms of {repr}?"]


@pytest.fixture
def suite(sample):
    return Suite("tiny", Given(sample), {"localization": Localization(PROMPTS)})


@pytest.fixture
def predictor(suite):
    answers = {question.key: "[10, 10, 30, 30]" for question in suite.questions()}
    return Recorded("someone", locate, answers)


def test_writes_answers_items_and_results(suite, predictor, tmp_path):
    run = run_benchmark(suite, predictor, tmp_path, subject="someone", settings={"seed": 0})
    results = json.loads((tmp_path / "results.json").read_text())
    assert results == json.loads(json.dumps(run.results))
    items = [json.loads(line) for line in (tmp_path / "items.jsonl").read_text().splitlines()]
    assert items == json.loads(json.dumps(run.items))
    assert len(items) == 3
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 4
    assert run.image_of("photo") == suite.samples[0].image


def test_the_summary_says_what_was_left_out(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    asked = [
        {"question_id": n, "image": image, "text": "Is there a dog?", "label": "yes"}
        for n, image in enumerate(["a.png", "gone.png", "gone.png"])
    ]
    (tmp_path / "pope.json").write_text(json.dumps(asked))
    pope = Pope(tmp_path / "pope.json", images=tmp_path)
    run = run_benchmark(
        pope, Recorded("someone", locate, {"pope/0": "Yes"}), tmp_path / "run", subject="someone"
    )
    summary = "1 images, 1 answers to 1 questions, protocol 1; left out: image absent, 2"
    assert run.results["summary"] == summary


def test_writes_the_file_for_a_test_server_where_nothing_can_be_scored(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "1.png")
    file = tmp_path / "questions.json"
    asked = {"question_id": 1000, "image_id": 1, "question": "What?"}
    file.write_text(json.dumps({"questions": [asked]}))
    vqa = Vqav2(file, images=tmp_path, image_name="{id}.png")
    someone = Recorded("someone", locate, {"vqav2/1000": "cat"})
    run = run_benchmark(vqa, someone, tmp_path / "run", subject="someone")
    sent = json.loads((tmp_path / "run" / "vqav2_results.json").read_text())
    assert sent == [{"question_id": 1000, "answer": "cat"}]
    assert run.results["metrics"] == []
    assert "someone on vqav2" in render_page(run.results, run.items, run.image_of)


def test_results_say_what_was_measured_how_and_on_what(suite, predictor, tmp_path):
    results = run_benchmark(suite, predictor, tmp_path, subject="someone").results
    assert results["title"] == "someone on tiny"
    assert results["benchmark"] == "tiny"
    assert results["predictor"] == {"kind": "recorded", "name": "someone"}
    assert results["protocol"]["localization"]["prompts"] == PROMPTS
    assert results["counts"]["questions"] == 3
    assert results["data"]["images"] == 1
    assert len(results["data"]["sha256"]) == 64
    assert results["version"]


def test_the_same_answers_give_the_same_numbers(suite, predictor, tmp_path):
    first = run_benchmark(suite, predictor, tmp_path / "a", subject="someone").results
    second = run_benchmark(suite, predictor, tmp_path / "b", subject="someone").results
    del first["created"], second["created"]
    assert first == second


def test_another_prompt_is_other_data(suite, sample, predictor, tmp_path):
    other = Suite("tiny", Given(sample), {"localization": Localization(["Find {category}."])})
    results = [
        run_benchmark(one, predictor, tmp_path / str(n), subject="x").results
        for n, one in enumerate([suite, other])
    ]
    assert results[0]["data"]["sha256"] != results[1]["data"]["sha256"]


def test_the_files_that_the_truth_was_read_from_are_named_by_their_hash(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    file = tmp_path / "pope.json"
    file.write_text('{"question_id": 1, "image": "a.png", "text": "Is it?", "label": "no"}')
    someone = Recorded("someone", locate, {"pope/1": "No"})
    pope = Pope(file, tmp_path)
    results = run_benchmark(pope, someone, tmp_path / "run", subject="someone").results
    assert results["data"][str(file)] == sha256(file)


def test_a_closed_answer_is_as_sure_as_its_share_of_the_likelihood(suite):
    [question, *_] = suite.questions()
    assert confidence(Answer(question, "a", (log(0.03), log(0.01)))) == pytest.approx(0.75)
    assert confidence(Answer(question, "a", (-2000.0, -1000.0))) == 1
    assert confidence(Answer(question, "a", (-inf, -1.0))) is None
    assert confidence(Answer(question, "a")) is None


def test_items_of_closed_questions_say_how_sure_the_answer_was(sample, tmp_path):
    suite = Suite("sides", Given(sample), {"sides": PART})
    closed = {q.key: (-1.0, -2.0) for q in suite.questions() if q.candidates}
    free = {q.key: "left" for q in suite.questions() if not q.candidates}
    someone = Recorded("someone", locate, free, closed)
    items = run_benchmark(suite, someone, tmp_path, subject="someone").items
    sure = {item["key"]: item["confidence"] for item in items}
    assert sure == {key: pytest.approx(1 / (1 + exp(-1))) for key in closed} | dict.fromkeys(free)
    assert {item["said"] for item in items} <= {"left", "right", "above", "below", "no side"}


def test_items_of_diagnostics_say_nothing_of_it(tmp_path):
    released = {
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}],
        "data": {
            "7": {
                "file_name": "a.png",
                "width": 100,
                "annotations": [
                    {"category_id": 1, "bbox": [0, 0, 10, 10]},
                    {"category_id": 2, "bbox": [50, 0, 10, 10]},
                ],
                "good_pairs": [[0, 1]],
            }
        },
    }
    (tmp_path / "spatial.json").write_text(json.dumps(released))
    ask = dict.fromkeys(("horizontal", "vertical"), "Is {category} left or right of {other}?")
    answer = dict.fromkeys(ask, "The {category} is {side} of the {other}.")
    Image.new("RGB", (100, 20)).save(tmp_path / "a.png")
    spatial = CocoSpatial(
        tmp_path / "spatial.json", tmp_path, wording={"released": ask}, answer=answer
    )
    closed = {q.key: (-1.0, -2.0) for q in spatial.questions() if q.candidates}
    free = {q.key: "left" for q in spatial.questions() if not q.candidates}
    someone = Recorded("someone", locate, free, closed)
    items = run_benchmark(spatial, someone, tmp_path / "run", subject="someone").items
    sure = {item["key"] for item in items if item["confidence"] is not None}
    assert sure == {f"coco_spatial/7/0-1{change}/likelihood" for change in ("", "/mirrored")}


def test_progress_counts_to_all_questions(suite, predictor, tmp_path):
    seen = []
    run_benchmark(
        suite, predictor, tmp_path, subject="x", on_progress=lambda *counts: seen.append(counts)
    )
    assert seen[0] == (0, 3)
    assert seen[-1] == (3, 3)


def test_refuses_a_benchmark_with_nothing_to_ask(sample, predictor, tmp_path):
    empty = Suite(
        "empty", Given(replace(sample, instances=())), {"localization": Localization(PROMPTS)}
    )
    with pytest.raises(DataError, match="'empty' has nothing to ask"):
        run_benchmark(empty, predictor, tmp_path, subject="x")


def test_refuses_two_images_of_one_key(sample, predictor, tmp_path):
    twice = Suite("twice", Given(sample, sample), {"localization": Localization(PROMPTS)})
    with pytest.raises(DataError, match="two questions with the key 'localization/photo"):
        run_benchmark(twice, predictor, tmp_path, subject="x")
