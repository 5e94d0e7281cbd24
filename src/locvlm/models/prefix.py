"""Reads prompts into a key-value cache; those that share an image share the reading of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import DynamicCache

from locvlm.errors import DataError
from locvlm.models.language import caching
from locvlm.processor import Prompt

if TYPE_CHECKING:
    from locvlm.models.locvlm import LocVLM


@dataclass(slots=True)
class Read:
    """B prompts that the language model has read.

    Args:
        cache: their keys and values.
        mask: (B, T) bool, false on padding, which stands before the tokens of shorter prompts;
            None where there is none.
        lengths: (B,) tokens read, without padding.
        logits: (B, V) of the token that comes next.
    """

    cache: DynamicCache
    mask: Tensor | None
    lengths: Tensor
    logits: Tensor

    def select(self, rows: Tensor) -> None:
        """Keeps the prompts of `rows` (indices), in that order; one may occur many times."""
        self.cache.batch_select_indices(rows)
        self.mask = None if self.mask is None else self.mask[rows]
        self.lengths = self.lengths[rows]
        self.logits = self.logits[rows]

    def read(
        self, model: "LocVLM", ids: Tensor, mask: Tensor | None = None, *, last_only: bool = False
    ) -> Tensor:
        """Reads (B, A) further tokens.

        Args:
            model: that has read the others.
            ids: the tokens.
            mask: (B, A) bool, false on padding, which stands on the left; None: there is none.
            last_only: give the logits behind the last token only, (B, 1, V).

        Returns:
            (B, A, V) logits of what comes after each; those after the last one are kept.
        """
        new = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
        if self.mask is None and mask is not None:
            before = (len(ids), self.cache.get_seq_length())
            self.mask = torch.ones(before, dtype=torch.bool, device=ids.device)
        if self.mask is not None:
            self.mask = torch.cat([self.mask, new], dim=1)
        logits = model.language_model(
            input_ids=ids,
            attention_mask=self.mask,
            position_ids=(self.lengths[:, None] + new.cumsum(dim=1) - 1).clamp(min=0),
            **caching(model.language_model, self.cache),
            logits_to_keep=1 if last_only else 0,
        ).logits
        self.lengths = self.lengths + new.sum(dim=1)
        self.logits = logits[:, -1]
        return logits


def read_prompts(model: "LocVLM", prompts: Sequence[Prompt]) -> Read:
    """Lets the language model read prompts, all at once.

    An image is encoded and read once for all prompts whose `pixel_values` are the same tensor, and
    so is the text that they have in common up to where they differ.

    Raises:
        DataError: a prompt is longer than the language model can read.
    """
    longest = max(len(prompt["input_ids"]) for prompt in prompts)
    limit = getattr(model.language_model.config, "max_position_embeddings", None)
    if limit is not None and longest > limit:
        raise DataError(
            f"a prompt of {longest} tokens, the language model reads {limit} at most",
            fix="ask with fewer turns or a shorter text",
        )
    groups = _groups(model, prompts)
    starts = [_n_shared([prompts[n]["input_ids"] for n in group]) for group in groups]
    if len(groups) == len(prompts) or not min(starts):
        return _read_first(model, prompts)
    state = _read_first(
        model,
        [
            Prompt(
                input_ids=prompts[group[0]]["input_ids"][:start],
                pixel_values=prompts[group[0]]["pixel_values"],
            )
            for group, start in zip(groups, starts, strict=True)
        ],
    )
    of_prompt = {n: number for number, group in enumerate(groups) for n in group}
    rows = [of_prompt[n] for n in range(len(prompts))]
    state.select(torch.tensor(rows, device=model.device))
    ends = [prompt["input_ids"][starts[row] :] for prompt, row in zip(prompts, rows, strict=True)]
    ids, mask = _pad_left(model, ends)
    state.read(model, ids, mask, last_only=True)
    return state


def _groups(model: "LocVLM", prompts: Sequence[Prompt]) -> list[list[int]]:
    """The places of prompts with one image and one text before it; all others stand alone."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for n, prompt in enumerate(prompts):
        images = prompt["pixel_values"]
        places = (prompt["input_ids"] == model.image_token_id).nonzero()
        if len(images) and len(places):
            before = tuple(prompt["input_ids"][: int(places[-1]) + 1].tolist())
            groups.setdefault((id(images), before), []).append(n)
        else:
            groups[n,] = [n]
    return list(groups.values())


def _n_shared(texts: Sequence[Tensor]) -> int:
    """Tokens that all texts begin with; one of each is always left to read."""
    n = min(map(len, texts)) - 1
    for other in texts[1:]:
        n = int((texts[0][:n] == other[:n]).long().cumprod(dim=0).sum())
    return n


def _read_first(model: "LocVLM", prompts: Sequence[Prompt]) -> Read:
    input_ids, mask = _pad_left(model, [prompt["input_ids"] for prompt in prompts])
    pixel_values = torch.cat([prompt["pixel_values"] for prompt in prompts]).to(model.device)
    cache = DynamicCache(config=model.language_model.config)
    whole = torch.ones_like(input_ids, dtype=torch.bool) if mask is None else mask
    logits = model.language_model(
        inputs_embeds=model.embed(input_ids, pixel_values),
        attention_mask=mask,
        position_ids=(whole.long().cumsum(dim=1) - 1).clamp(min=0),
        **caching(model.language_model, cache),
        logits_to_keep=1,
    ).logits
    return Read(cache, mask, whole.sum(dim=1), logits[:, -1])


def _pad_left(model: "LocVLM", texts: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """(B, T) token ids on the model's device, and what of them is no padding, where there is some.

    On the right the last logits would be those of padding.
    """
    lengths = torch.tensor([len(text) for text in texts])
    longest = int(lengths.max())
    ids = torch.zeros(len(texts), longest, dtype=torch.long)
    for row, text in zip(ids, texts, strict=True):
        row[longest - len(text) :] = text
    mask = torch.arange(longest) >= longest - lengths[:, None]
    return ids.to(model.device), None if bool(mask.all()) else mask.to(model.device)
