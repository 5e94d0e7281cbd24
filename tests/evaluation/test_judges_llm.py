import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from locvlm.errors import ConfigError
from locvlm.evaluation.judges_free import Case, Verdict
from locvlm.evaluation.judges_llm import LlmJudge, read_verdict
from locvlm.predictors.recorded import Recorded
from tests.test_configs import CONF

PROMPT = "Q {question} G {gold} A {answer} as {'pred': 'yes', 'score': 4}"
CASES = [Case("b/1", "who?", "man", "a {gold} man"), Case("b/2", "who?", "man", "dog")]
NONE = Verdict(right=False, unparsable=True)


class Judge(Recorded):
    """Remembers what it was asked."""

    asked = ()

    def answer(self, questions):
        type(self).asked = (*self.asked, *questions)
        return super().answer(questions)


@pytest.fixture
def predictor():
    Judge.asked = ()
    said = {"b/1": "{'pred': 'yes', 'score': 5}", "b/2": "I would not say so."}
    return Judge("gpt", None, said)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{'pred': 'yes', 'score': 4}", Verdict(right=True, score=4)),
        ('{"pred": "No", "score": 0}', Verdict(right=False, score=0)),
        ("{'pred': 'yes', 'score': 4.8}", Verdict(right=True, score=4)),
        ("```json\n{\"score\": '3', 'pred': 'no'}\n```", Verdict(right=False, score=3)),
        ("{'pred': 'yes', 'score': 4} {'pred': 'yes', 'score': 4}", Verdict(right=True, score=4)),
        ("{'pred': 'yes', 'score': 5} {'pred': 'no', 'score': 0}", NONE),
        ("{'pred': 'yes', 'score': 6}", NONE),
        ("{'pred': 'yes', 'score': -1}", NONE),
        ("{'pred': 'yes'}", NONE),
        ("{'pred': 'yes', 'score': 'high'}", NONE),
        ("{'pred': __import__('os').system('true'), 'score': 5}", NONE),
        ("{'pred': 'maybe', 'score': 5}", NONE),
        ("{'pred': 'yes', 'score': " + "9" * 5000 + "}", NONE),
        ("yes", NONE),
        ("", NONE),
        ("{" * 100_000, NONE),
    ],
)
def test_a_verdict_is_read_and_never_evaluated(text, expected):
    assert read_verdict(text) == expected


@given(st.text() | st.text("{}'\":pred yes no score 0123456789.,"))
def test_no_text_breaks_the_reading(text):
    verdict = read_verdict(text)
    assert verdict.unparsable == (verdict.score is None)


def test_a_judge_that_only_repeats_the_shipped_prompt_gives_no_verdict():
    prompt = OmegaConf.load(CONF / "judge" / "llm.yaml").prompt
    assert read_verdict(prompt) == NONE


def test_the_judge_is_asked_in_words_alone(predictor, tmp_path):
    verdicts = LlmJudge(predictor, PROMPT, tmp_path)(CASES)
    assert verdicts == [Verdict(right=True, score=5), NONE]
    question = Judge.asked[0]
    expected = "Q who? G man A a {gold} man as {'pred': 'yes', 'score': 4}"
    assert question.messages[-1].parts == (expected,)
    assert question.sample.image is None


def test_what_was_judged_once_is_not_asked_again(predictor, tmp_path):
    LlmJudge(predictor, PROMPT, tmp_path)(CASES)
    assert LlmJudge(predictor, PROMPT, tmp_path)(CASES)[0].right
    assert len(Judge.asked) == 2
    LlmJudge(predictor, PROMPT + "!", tmp_path)(CASES)
    assert len(Judge.asked) == 4
    header, *kept = map(json.loads, (tmp_path / "judge.jsonl").read_text().splitlines())
    assert header["predictor"] == {"kind": "recorded", "name": "gpt"}
    assert len(kept) == 4


def test_the_protocol_names_the_model_and_the_prompt(predictor, tmp_path):
    protocol = LlmJudge(predictor, PROMPT, tmp_path).protocol
    assert protocol["model"] == predictor.identity
    assert protocol["prompt"] == PROMPT
    assert len(protocol["prompt_sha256"]) == 64
    assert protocol != LlmJudge(predictor, PROMPT + "!", tmp_path).protocol


def test_a_folder_is_needed(predictor):
    with pytest.raises(ConfigError, match="output=FOLDER"):
        LlmJudge(predictor, PROMPT, None)
