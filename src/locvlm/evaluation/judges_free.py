"""Judges of free answers: does what a model said mean the right answer?

Rules are pure functions of two texts and never raise. `VERSION` stands in every score file: raise
it whenever a rule can decide differently than before. `judges_llm` asks a language model instead.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, get_args

from locvlm.errors import ConfigError
from locvlm.evaluation.judges import says_yes
from locvlm.evaluation.metrics.vqa import normalized

VERSION = "1"
Rule = Literal["verbatim", "exact", "contains"]


class Case(NamedTuple):
    """What is to be judged.

    Args:
        key: of the question.
        question: as the benchmark has it, without a prompt around it.
        gold: the right answer.
        answer: what was said.
    """

    key: str
    question: str
    gold: str
    answer: str


class Verdict(NamedTuple):
    """What a judge finds.

    Args:
        right: whether the answer is right.
        score: how well it fits, 0 to 5; None where the judge gives none.
        unparsable: the judge's words hold no verdict; the answer counts as wrong.
    """

    right: bool
    score: float | None = None
    unparsable: bool = False


class Judge(Protocol):
    """Decides which answers are right."""

    @property
    def protocol(self) -> Mapping[str, Any]:
        """All that its verdicts depend on, as JSON values."""

    def __call__(self, cases: Sequence[Case]) -> list[Verdict]:
        """One verdict for each case."""


def verbatim(answer: str, gold: str) -> bool:
    """The same characters, as ActivityNet-QA's eval.py has it."""
    return answer == gold


def exact(answer: str, gold: str) -> bool:
    """The same after VQA's normalization: punctuation, articles, capitals and number words.

    >>> exact("The dog.", "dog"), exact("two", "2"), exact("a black dog", "dog")
    (True, True, False)
    """
    return normalized(answer) == normalized(gold)


def contains(answer: str, gold: str) -> bool:
    """The words of the right answer stand in the answer, side by side, after normalization.

    For models that answer in sentences; one that lists many words is right more often.

    >>> contains("It is a hot dog.", "hot dog"), contains("hotdogs", "dog")
    (True, False)
    """
    return f" {normalized(gold)} " in f" {normalized(answer)} "


def polarity(answer: str, gold: str) -> bool | None:
    """Whether the first yes, no or not of the answer is right; None where the truth is neither.

    >>> polarity("No, it isn't.", "no"), polarity("It is.", "yes"), polarity("No", "red")
    (True, False, None)
    """
    wanted = {"yes": True, "no": False}.get(normalized(gold))
    return None if wanted is None else says_yes(answer) == wanted


_RULES = {"verbatim": verbatim, "exact": exact, "contains": contains}


@dataclass(frozen=True, slots=True)
class ByRule:
    """Judges by one of the rules above.

    Args:
        rule: its name.

    Raises:
        ConfigError: there is no such rule.
    """

    rule: Rule

    def __post_init__(self) -> None:
        if self.rule not in _RULES:
            raise ConfigError(
                f"there is no rule {self.rule!r}",
                where="judge.rule",
                fix=f"choose from {', '.join(get_args(Rule))}",
            )

    @property
    def protocol(self) -> Mapping[str, Any]:
        """The rule and the version of the rules."""
        return {"kind": self.rule, "version": VERSION}

    def __call__(self, cases: Sequence[Case]) -> list[Verdict]:
        """Right where the rule holds."""
        return [Verdict(_RULES[self.rule](case.answer, case.gold)) for case in cases]
