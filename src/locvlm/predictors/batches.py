"""Batches of questions about the same images, and of like length within them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

from locvlm.errors import LocVLMError
from locvlm.types import Question

P = TypeVar("P")
T = TypeVar("T")


def in_batches(
    questions: Sequence[Question],
    size: int,
    run: Callable[[P], Sequence[T]],
    prepare: Callable[[list[Question]], P],
) -> list[T]:
    """What `run` gives for each question, in the order of the questions.

    Questions about one image come together, so that it is decoded once, and shorter ones before
    longer ones, so that little is padded.

    Args:
        questions: any, about any images.
        size: of them at a time.
        run: gives one result for each question of a batch, in its order.
        prepare: makes of a batch what `run` takes. Another thread does it for the next batch while
            `run` is at work on this one, so that a GPU need not wait for images and tokens.

    Raises:
        LocVLMError: the device's memory is too small for a batch.
    """
    groups: dict[int, list[tuple[int, int]]] = {}
    for n, question in enumerate(questions):
        groups.setdefault(id(question.sample), []).append((_length(question), n))
    order = [n for group in sorted(map(sorted, groups.values()), key=max) for _, n in group]
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    ready = _one_ahead(([questions[n] for n in batch] for batch in batches), prepare)
    found: dict[int, T] = {}
    for batch, one in zip(batches, ready, strict=True):
        found.update(zip(batch, _results(run, one, len(batch)), strict=True))
    return [found[n] for n in range(len(questions))]


def _one_ahead(
    batches: Iterable[list[Question]], prepare: Callable[[list[Question]], P]
) -> Iterator[P]:
    """What `prepare` makes of each batch, while the one before it is in use."""
    with ThreadPoolExecutor(1) as pool:
        waiting: list[Future[P]] = []
        for batch in batches:
            waiting.append(pool.submit(prepare, batch))
            if len(waiting) > 1:
                yield waiting.pop(0).result()
        for last in waiting:
            yield last.result()


def _results(run: Callable[[P], Sequence[T]], ready: P, size: int) -> Sequence[T]:
    try:
        return run(ready)
    except torch.OutOfMemoryError as error:
        raise LocVLMError(
            f"the device's memory is full with a batch of {size} questions",
            fix="lower predictor.batch_size; what was answered is kept. torch says: "
            f"{str(error).splitlines()[0]}",
        ) from error


def _length(question: Question) -> int:
    """Roughly the characters of a question; a location is counted as its usual text."""
    texts = [part for message in question.messages for part in message.parts]
    return sum(len(part) if isinstance(part, str) else 7 * len(part) for part in texts)
