"""What a model learns from a data set: each token of a sample, and the share that is learned."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from locvlm.data.mixture import Draw
from locvlm.data.stream import Examples
from locvlm.errors import DataError
from locvlm.processor import Example, Processor

Meaning: TypeAlias = Literal["image", "prompt", "answer", "number", "end"]


class Row(NamedTuple):
    """One token of a sequence, or a run of image tokens; `label` is None where none is learned."""

    position: int
    token: str
    id: int
    label: int | None
    weight: float
    meaning: Meaning


@dataclass(frozen=True, slots=True)
class Supervision:
    """How much of a data set is learned.

    Args:
        n_samples: samples that were looked at.
        n_tokens: their tokens, image tokens counted in.
        n_learned: tokens with a label.
        n_silent: samples that give nothing to learn: no objective can ask about them.
        bad: why other samples cannot be used.
    """

    n_samples: int
    n_tokens: int
    n_learned: int
    n_silent: int
    bad: tuple[str, ...]

    @property
    def share(self) -> float:
        """Of the tokens, 0 to 1."""
        return self.n_learned / max(1, self.n_tokens)


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
    n_samples = n_tokens = n_learned = n_silent = 0
    bad: list[str] = []
    for draw in draws:
        n_samples += 1
        try:
            labels = examples.processor.encode(*examples.sample(draw))["labels"]
        except DataError as error:
            bad.append(str(error))
            continue
        learned = int((labels >= 0).sum())
        n_tokens, n_learned = n_tokens + len(labels), n_learned + learned
        n_silent += learned == 0
    return Supervision(n_samples, n_tokens, n_learned, n_silent, tuple(bad))


def check_supervised(found: Supervision) -> None:
    """Refuses data from which nothing would be learned.

    Raises:
        DataError: no token has a label; says how many samples are bad, and why.
    """
    if found.n_learned:
        return
    if found.bad and len(found.bad) == found.n_samples:
        raise DataError(
            f"all {found.n_samples} samples are bad; the first one: {found.bad[0]}", where="data"
        )
    raise DataError(
        f"none of {found.n_tokens:,} tokens is learned: there is no answer in these "
        f"{found.n_samples} samples",
        where="data",
        fix="choose objectives other than none for annotated images, check that assistant turns "
        "are there, and that processor.max_length does not cut them off",
    )


def _meaning(token: str, token_id: int, learned: bool, processor: Processor) -> Meaning:
    if not learned:
        return "prompt"
    if token_id == processor.end_id or token == processor.chat.end:
        return "end"
    return "number" if token.strip().isdigit() else "answer"
