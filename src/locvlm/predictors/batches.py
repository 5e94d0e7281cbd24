"""Batches of questions about the same images, and of like length within them."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from locvlm.errors import LocVLMError
from locvlm.types import Question

T = TypeVar("T")


def in_batches(
    questions: Sequence[Question], size: int, run: Callable[[list[Question]], Sequence[T]]
) -> list[T]:
    """What `run` gives for each question, in the order of the questions.

    Questions about one image come together, so that it is decoded once, and shorter ones before
    longer ones, so that little is padded.

    Args:
        questions: any, about any images.
        size: of them at a time.
        run: gives one result for each question of a batch, in its order.

    Raises:
        LocVLMError: the device's memory is too small for a batch.
    """
    groups: dict[int, list[tuple[int, int]]] = {}
    for n, question in enumerate(questions):
        groups.setdefault(id(question.sample), []).append((_length(question), n))
    order = [n for group in sorted(map(sorted, groups.values()), key=max) for _, n in group]
    found: dict[int, T] = {}
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        try:
            results = run([questions[n] for n in batch])
        except torch.OutOfMemoryError as error:
            raise LocVLMError(
                f"the device's memory is full with a batch of {len(batch)} questions",
                where=questions[batch[-1]].key,
                fix="lower predictor.batch_size; what was answered is kept. torch says: "
                f"{str(error).splitlines()[0]}",
            ) from error
        found.update(zip(batch, results, strict=True))
    return [found[n] for n in range(len(questions))]


def _length(question: Question) -> int:
    """Roughly the characters of a question; a location is counted as its usual text."""
    texts = [part for message in question.messages for part in message.parts]
    return sum(len(part) if isinstance(part, str) else 7 * len(part) for part in texts)
