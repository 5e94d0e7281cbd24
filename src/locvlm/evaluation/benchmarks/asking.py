"""What the parts of a benchmark share: seeded prompts, messages, and the readings of answers."""

from collections.abc import Callable, Sequence
from random import Random
from typing import TYPE_CHECKING, TypeAlias

from locvlm.objectives import BOX_WORDS
from locvlm.predictors.ask import Answer
from locvlm.templates import fill
from locvlm.types import Box, Message, Part, Sample

if TYPE_CHECKING:
    from locvlm.located import Located

Read: TypeAlias = "Callable[[Answer], Located]"


def where_is(prompts: Sequence[str], sample: Sample, name: str, seed: int) -> Message:
    """Asks where an object is, present or not: the same words for the same image and name."""
    prompt = seeded(seed, sample.key, name).choice(prompts)
    return Message("user", fill(prompt, category=name, repr=BOX_WORDS))


def seeded(seed: int, *labels: str) -> Random:
    """Randomness that depends on the labels only, not on what was drawn before."""
    text = "|".join((str(seed), *labels))
    return Random(text.encode("utf-8", "surrogatepass"))  # a str alone fails on lone surrogates


def half_present(
    present: Sequence[str], absent: Sequence[str], n: int, rng: Random
) -> list[tuple[str, bool]]:
    """Up to `n` present names and as many absent ones, drawn, each with whether it is present."""
    n = min(n, len(present), len(absent))
    return [(name, True) for name in rng.sample(present, n)] + [
        (name, False) for name in rng.sample(absent, n)
    ]


def first_box(answer: Answer, read: Read) -> Box | None:
    """The first box of an answer, in pixels; None where it holds none that can be read."""
    return next(iter(read(answer).boxes), None)


def spoken(parts: Sequence[Part]) -> str:
    """A message for people: locations as rounded pixels."""
    return "".join(
        part if isinstance(part, str) else f"({', '.join(f'{value:.0f}' for value in part)})"
        for part in parts
    )
