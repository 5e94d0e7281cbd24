"""A language model as the judge of free answers, as Video-ChatGPT's evaluation has it.

The same predictions have scored 35.2 and 43.6 under two versions of one judge: results name the
model and the prompt, and a comparison needs both to be the same.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from locvlm.errors import ConfigError
from locvlm.evaluation.judges_free import Case, Verdict
from locvlm.io import sha256
from locvlm.predictors.ask import Predictor, ask
from locvlm.templates import fill
from locvlm.types import Message, Question, Sample

VERSION = "1"  # of the reading of verdicts
FILE = "judge.jsonl"
_PRED = re.compile(r"""["']pred["']\s*:\s*["'](yes|no)["']""", re.IGNORECASE)
_SCORE = re.compile(
    r"""["']score["']\s*:\s*["']?(\d+(?:\.\d+)?)["']?\s*[,}]""", re.IGNORECASE | re.ASCII
)


class LlmJudge:
    """Asks a predictor, in words alone, whether an answer means the right one.

    Args:
        predictor: the judge: an endpoint, or a local model.
        prompt: with {question}, {gold} and {answer}; asks for a verdict as `read_verdict` reads it.
        folder: where its words are kept, in judge.jsonl; what was asked once is not asked again.

    Raises:
        ConfigError: there is no folder.
    """

    def __init__(self, predictor: Predictor, prompt: str, folder: str | Path | None):
        if folder is None:
            raise ConfigError(
                "what a language model judges is kept, so that it is asked once and can be read",
                where="output",
                fix="add output=FOLDER",
            )
        self.predictor = predictor
        self.prompt = prompt
        self.file = Path(folder) / FILE

    @property
    def protocol(self) -> Mapping[str, Any]:
        """The model, the prompt with its hash, and the version of the reading."""
        return {
            "kind": "llm",
            "version": VERSION,
            "prompt": self.prompt,
            "prompt_sha256": sha256(self.prompt.encode()),
            "model": dict(self.predictor.identity),
        }

    def __call__(self, cases: Sequence[Case]) -> list[Verdict]:
        """One verdict for each case; words without one are unparsable."""
        questions = [
            Question(
                case.key,
                Sample(case.key, "judge"),
                (
                    Message(
                        "user",
                        fill(
                            self.prompt,
                            question=case.question,
                            gold=case.gold,
                            answer=case.answer,
                        ),
                    ),
                ),
            )
            for case in cases
        ]
        return [read_verdict(said.text) for said in ask(questions, self.predictor, self.file)]


def read_verdict(text: str) -> Verdict:
    """The verdict in a judge's words: {'pred': 'yes', 'score': 4}, as Python or as JSON.

    Other words around it do no harm. Nothing is evaluated: the judged answer may have spoken
    through the judge. Two verdicts that differ are none, and neither is a score beyond 0 to 5;
    fractions of a score are cut off, as Video-ChatGPT's program does.

    >>> read_verdict("{'pred': 'yes', 'score': 4.8}")
    Verdict(right=True, score=4, unparsable=False)
    """
    preds = {pred.lower() for pred in _PRED.findall(text)}
    scores = {float(score) for score in _SCORE.findall(text)}
    if len(preds) != 1 or len(scores) != 1:
        return Verdict(right=False, unparsable=True)
    score = scores.pop()
    if score > 5:
        return Verdict(right=False, unparsable=True)
    return Verdict(preds == {"yes"}, int(score))
