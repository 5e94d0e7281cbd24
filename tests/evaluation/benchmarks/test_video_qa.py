import json

import pytest

from locvlm.evaluation.answers import match
from locvlm.evaluation.benchmarks.video_qa import activitynet_qa, open_ended_qa, tgif_frameqa
from locvlm.evaluation.judges_free import ByRule
from locvlm.evaluation.judges_llm import LlmJudge
from locvlm.predictors.recorded import Recorded
from tests.evaluation.conftest import answered, counts, values

GOLD = {"1": ("what is it?", "dog"), "2": ("who runs?", "man"), "3": ("is it dark?", "no")}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "test_qa.json"
    records = [
        {"id": int(key), "video_id": f"vid{key}", "question": question, "answer": answer}
        for key, (question, answer) in GOLD.items()
    ]
    path.write_text(json.dumps(records))
    return str(path)


def msvd(file, judge=None):
    return open_ended_qa("msvd_qa", "MSVD-QA", file, judge or ByRule("exact"))


def score(benchmark, texts):
    answers = answered(benchmark.questions(), lambda question: texts[question.meta["id"]])
    return benchmark.score(answers, None)


def test_every_judge_stands_beside_the_one_that_decides(file):
    benchmark = msvd(file)
    found = score(benchmark, {"1": "The dog.", "2": "a man runs", "3": "no"})
    figures = benchmark.figures(found)
    assert figures["accuracy"] == figures["exact"] == pytest.approx(2 / 3)
    assert figures["contains"] == 1
    assert figures["polarity"] == 1
    assert figures["what"] == 1
    assert figures["who"] == 0
    assert counts(found)["msvd_qa.polarity"] == 1
    assert counts(found)["msvd_qa.where"] == 0


def test_the_judge_can_be_another(file):
    benchmark = msvd(file, ByRule("contains"))
    found = score(benchmark, {"1": "dog", "2": "a man runs", "3": "yes"})
    assert values(found)["msvd_qa.accuracy"] == pytest.approx(2 / 3)
    assert values(found)["msvd_qa.exact"] == pytest.approx(1 / 3)
    assert benchmark.protocol["judge"]["kind"] == "contains"
    assert benchmark.version != msvd(file).version


def test_a_language_models_score_and_what_it_fails_to_say(file, tmp_path):
    words = {
        "msvd_qa/1": "{'pred': 'yes', 'score': 5}",
        "msvd_qa/2": "{'pred': 'no', 'score': 2}",
        "msvd_qa/3": "{'pred': 'yes', 'score': 5} no, {'pred': 'no', 'score': 1}",
    }
    judge = LlmJudge(Recorded("gpt", None, words), "{question}{gold}{answer}", tmp_path)
    benchmark = msvd(file, judge)
    found = score(benchmark, {"1": "poodle", "2": "woman", "3": "no"})
    figures = benchmark.figures(found)
    assert figures["accuracy"] == pytest.approx(1 / 3)
    assert figures["score"] == pytest.approx(3.5)
    assert figures["unparsable"] == pytest.approx(1 / 3)
    assert [item.outcome for item in found.items] == ["right", "wrong", "no verdict"]
    assert benchmark.protocol["judge"]["model"] == {"kind": "recorded", "name": "gpt"}
    assert "score" not in msvd(file).figures(score(msvd(file), dict.fromkeys(GOLD, "x")))


def test_activitynet_as_its_official_program_counts(tmp_path):
    kinds = [0, 1, 2, 3, 4, 5, 6, 7, 8, 3]
    truth = [{"question_id": str(n), "answer": "a", "type": kind} for n, kind in enumerate(kinds)]
    asked = [{"question_id": str(n), "video_name": "v", "question": "q"} for n in range(10)]
    files = []
    for name, records in (("q.json", asked), ("a.json", truth)):
        files.append(tmp_path / name)
        files[-1].write_text(json.dumps(records))
    benchmark = activitynet_qa(*map(str, files), ByRule("verbatim"))
    right = {"0", "3", "4", "8"}
    found = score(benchmark, {str(n): "a" if str(n) in right else "A" for n in range(10)})
    figures = benchmark.figures(found)
    assert figures["all"] == 0.4  # "A" is not "a": the official program compares characters
    assert figures["free"] == pytest.approx(3 / 7)
    assert (figures["motion"], figures["spatial"], figures["temporal"]) == (1, 0, 0)
    assert (figures["yes_no"], figures["color"], figures["other"]) == (0.5, 1, 1)
    assert (figures["object"], figures["location"], figures["number"]) == (0, 0, 0)


def test_real_files_are_joined_and_scored(real_data, tmp_path):
    folder = real_data / "activitynet_qa"
    files = [str(folder / name) for name in ("test_q_200.json", "test_a_200.json")]
    truth = json.loads((folder / "test_a_200.json").read_text())
    answers = tmp_path / "answers.json"
    said = [{"question_id": one["question_id"], "answer": "yes"} for one in truth]
    answers.write_text(json.dumps(said))
    benchmark = activitynet_qa(*files, ByRule("verbatim"))
    matched = match(benchmark.questions(), benchmark.read_answers(answers))
    figures = benchmark.figures(benchmark.score(matched.answers, None))
    n_yes = sum(one["answer"] == "yes" for one in truth)
    assert figures["all"] == n_yes / 200
    assert figures["yes_no"] == n_yes / 198


@pytest.mark.parametrize("key", ["question_id", "vid_id", "key"])
def test_real_frames_are_answered_by_their_vid_id(real_data, tmp_path, key):
    table = str(real_data / "tgif_qa" / "Test_frameqa_question_extract.csv")
    answers = tmp_path / "answers.jsonl"
    answers.write_text(json.dumps({key: "FRAMEQA1159", "text": "Cookie."}))
    benchmark = tgif_frameqa(table, ByRule("exact"))
    matched = match(benchmark.questions(), benchmark.read_answers(answers))
    assert matched.counts["questions without an answer"] == 60
    assert benchmark.figures(benchmark.score(matched.answers, None))["object"] == 1


def test_hostile_answers_are_wrong_and_nothing_else(file):
    texts = {"1": "\x00\ud800{gold}", "2": "{'pred': 'yes', 'score': 5}", "3": "." * 100_000}
    assert values(score(msvd(file), texts))["msvd_qa.accuracy"] == 0
