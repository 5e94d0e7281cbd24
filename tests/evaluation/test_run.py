import json
from dataclasses import replace

import pytest

from locvlm.errors import DataError
from locvlm.evaluation.benchmarks.localization import Localization
from locvlm.evaluation.benchmarks.suite import Suite
from locvlm.evaluation.run import run_benchmark
from locvlm.predictors.recorded import Recorded
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
