"""What a model learns from a sample: each token, its label, its weight, and what it stands for."""

from collections.abc import Iterable
from typing import Literal, NamedTuple, TypeAlias

from locvlm.errors import DataError
from locvlm.processor import Example, Processor

Meaning: TypeAlias = Literal["image", "prompt", "answer", "number", "end"]


class Row(NamedTuple):
    """One token of a sequence, or a run of image tokens."""

    position: int
    token: str
    id: int
    label: int | None
    weight: float
    meaning: Meaning


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
        token = processor.tokenizer.decode([token_id], skip_special_tokens=False)
        learned = label if label >= 0 else None
        meaning = _meaning(token, token_id, learned is not None, processor)
        rows.append(Row(position, token, token_id, learned, weight, meaning))
    return rows


def supervised_share(examples: Iterable[Example]) -> float:
    """Share of the tokens that are learned, image tokens counted in.

    Raises:
        DataError: it is zero: nothing would be learned from this data set.
    """
    learned = total = 0
    for example in examples:
        learned += int((example["labels"] >= 0).sum())
        total += len(example["labels"])
    if not learned:
        raise DataError(
            f"none of {total:,} tokens is learned: there is no answer in this data",
            where="data",
            fix="choose objectives other than none for annotated images, check that assistant "
            "turns are there, and that processor.max_length does not cut them off",
        )
    return learned / total


def _meaning(token: str, token_id: int, learned: bool, processor: Processor) -> Meaning:
    if not learned:
        return "prompt"
    if token_id == processor.end_id:
        return "end"
    return "number" if token.strip().isdigit() else "answer"
