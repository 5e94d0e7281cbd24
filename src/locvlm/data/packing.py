"""Packing: the examples of a batch share rows, so that hardly any token is padding.

A packed batch holds the very examples of the padded one and gives the same loss. So batch size,
order and resuming stay what they are without packing, and no example waits for a later batch.
"""

import heapq
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from locvlm.data.collate import Batch, join_images
from locvlm.processor import IGNORE_INDEX, Example

PADDING = 0.03  # share of the tokens of a batch


def pack_rows(lengths: Sequence[int]) -> list[list[int]]:
    """Which examples share a row.

    The longest example left goes to the shortest row (longest processing time first); there are
    as many rows as leave at most `PADDING`. Few long rows would leave less, but where attention is
    masked (`eager`) it takes time in proportion to the length of rows.

    Args:
        lengths: tokens of each example.

    Returns:
        Indices of the examples of each row, ascending.
    """
    total, longest = sum(lengths), max(lengths)
    most = int(total / longest / (1 - PADDING)) if longest else 1
    for n_rows in range(min(len(lengths), max(1, most)), 1, -1):
        rows = _spread(lengths, n_rows)
        area = n_rows * max(sum(lengths[index] for index in row) for row in rows)
        if total >= (1 - PADDING) * area:
            return rows
    return [list(range(len(lengths)))]


def pack(examples: Sequence[Example], pad_id: int) -> Batch:
    """One packed batch of at least one example; `pad_id` is written where a row has ended.

    Positions begin anew with each example, which tells the language model that attention stays
    inside it.
    """
    rows = pack_rows([len(example["input_ids"]) for example in examples])

    def join(part: Callable[[Example], Tensor], value: float) -> Tensor:
        joined = [torch.cat([part(examples[index]) for index in row]) for row in rows]
        return pad_sequence(joined, True, value)

    lengths = [sum(len(examples[index]["input_ids"]) for index in row) for row in rows]
    input_ids = join(lambda example: example["input_ids"], pad_id)
    return Batch(
        input_ids=input_ids,
        attention_mask=torch.arange(input_ids.shape[1])[None] < torch.tensor(lengths)[:, None],
        labels=join(_labels, IGNORE_INDEX),
        loss_weights=join(lambda example: example["loss_weights"], 0.0),
        pixel_values=join_images(
            [examples[index]["pixel_values"] for row in rows for index in row]
        ),
        position_ids=join(lambda example: torch.arange(len(example["input_ids"])), 0),
    )


def _spread(lengths: Sequence[int], n_rows: int) -> list[list[int]]:
    rows: list[list[int]] = [[] for _ in range(n_rows)]
    shortest = [(0, row) for row in range(n_rows)]
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        load, row = heapq.heappop(shortest)
        rows[row].append(index)
        heapq.heappush(shortest, (load + lengths[index], row))
    return [sorted(row) for row in rows]


def _labels(example: Example) -> Tensor:
    labels = example["labels"].clone()
    labels[:1] = IGNORE_INDEX  # the last token of the example before must not predict it
    return labels
