"""What a model learns from a data set: each token of a sample, and the share that is learned."""

from collections import Counter
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from locvlm.data.mixture import Draw
from locvlm.data.shards import kind_of
from locvlm.data.stream import Examples
from locvlm.errors import DataError
from locvlm.processor import Example, Processor
from locvlm.types import Message, Sample

Meaning: TypeAlias = Literal["image", "prompt", "answer", "number", "end"]


class Row(NamedTuple):
    """One token of a sequence, or a run of image tokens; `label` is None where none is learned."""

    position: int
    token: str
    id: int
    label: int | None
    weight: float
    meaning: Meaning


class Learned(NamedTuple):
    """How much is learned of one sample.

    Args:
        source: its number in the mixture.
        kind: of its conversation, or annotated image.
        length: tokens before it is cut, image tokens counted in.
        n_tokens: tokens that are left.
        n_learned: those with a label.
        n_turns: answers.
        n_located: answers whose turn, question or answer, holds a location.
    """

    source: int
    kind: str
    length: int
    n_tokens: int
    n_learned: int
    n_turns: int
    n_located: int


class Bad(NamedTuple):
    """A sample that cannot be encoded: its place in the mixture, and why."""

    source: int
    sample: int
    why: str


@dataclass(frozen=True, slots=True)
class Supervision:
    """How much of a data set is learned.

    Args:
        samples: those that can be used.
        bad: others that were looked at.
    """

    samples: tuple[Learned, ...]
    bad: tuple[Bad, ...] = ()

    @property
    def n_samples(self) -> int:
        """Samples that were looked at."""
        return len(self.samples) + len(self.bad)

    @property
    def n_tokens(self) -> int:
        """Their tokens, image tokens counted in."""
        return sum(sample.n_tokens for sample in self.samples)

    @property
    def n_learned(self) -> int:
        """Tokens with a label."""
        return sum(sample.n_learned for sample in self.samples)

    @property
    def n_silent(self) -> int:
        """Samples that give nothing to learn: no objective can ask about them."""
        return sum(sample.n_learned == 0 for sample in self.samples)

    @property
    def n_cut(self) -> int:
        """Samples that are longer than a sequence may be."""
        return sum(sample.length > sample.n_tokens for sample in self.samples)

    @property
    def share(self) -> float:
        """Of the tokens, how many are learned, 0 to 1."""
        return self.n_learned / max(1, self.n_tokens)

    @property
    def located(self) -> float:
        """Of the answers, how many belong to a turn with a location, 0 to 1."""
        n_turns = sum(sample.n_turns for sample in self.samples)
        return sum(sample.n_located for sample in self.samples) / max(1, n_turns)

    @property
    def lengths(self) -> Counter[int]:
        """Samples by their tokens before they are cut."""
        return Counter(sample.length for sample in self.samples)

    def kinds(self) -> dict[str, "Supervision"]:
        """The same by kind, the most frequent one first."""
        groups: dict[str, list[Learned]] = {}
        for sample in self.samples:
            groups.setdefault(sample.kind, []).append(sample)
        ordered = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
        return {kind: Supervision(tuple(group)) for kind, group in ordered}


def token_rows(example: Example, processor: Processor) -> list[Row]:
    """The tokens of an example in order; the tokens of an image are one row."""
    rows: list[Row] = []
    ids = example["input_ids"].tolist()
    labels = example["labels"].tolist()
    weights = example["loss_weights"].tolist()
    for position, (token_id, label, weight) in enumerate(zip(ids, labels, weights, strict=True)):
        if token_id == processor.image_token_id:
            if not rows or rows[-1].meaning != "image":
                name = f"<image> x {processor.image_tokens}"
                rows.append(Row(position, name, token_id, None, 0.0, "image"))
            continue
        token = str(processor.tokenizer.decode([token_id], skip_special_tokens=False))
        learned = label if label >= 0 else None
        meaning = _meaning(token, token_id, learned is not None, processor)
        rows.append(Row(position, token, token_id, learned, weight, meaning))
    return rows


def supervision(examples: Examples, draws: Iterable[Draw]) -> Supervision:
    """How much is learned of the samples at `draws`; none is replaced by another."""
    samples: list[Learned] = []
    bad: list[Bad] = []
    for draw in draws:
        try:
            sample, messages = examples.sample(draw)
            samples.append(_learned(draw.source, sample, messages, examples.processor))
        except DataError as error:
            bad.append(Bad(draw.source, draw.sample, str(error)))
    return Supervision(tuple(samples), tuple(bad))


def _learned(
    source: int, sample: Sample, messages: Sequence[Message], processor: Processor
) -> Learned:
    labels = processor.encode(sample, messages)["labels"]
    length = len(labels)
    if length == processor.max_length:
        whole = copy(processor)
        whole.max_length = 1 << 31
        length = len(whole.encode(sample, messages)["labels"])
    turns = list(zip(messages[::2], messages[1::2], strict=False))
    located = sum(
        any(not isinstance(part, str) for message in turn for part in message.parts)
        for turn in turns
    )
    n_learned = int((labels >= 0).sum())
    return Learned(source, kind_of(sample), length, len(labels), n_learned, len(turns), located)


def _meaning(token: str, token_id: int, learned: bool, processor: Processor) -> Meaning:
    if not learned:
        return "prompt"
    if token_id == processor.end_id or token == processor.chat.end:
        return "end"
    return "number" if token.strip().isdigit() else "answer"
