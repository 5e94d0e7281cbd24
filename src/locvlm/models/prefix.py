"""Reads prompts into a key-value cache; those that share an image share the reading of it.

Prompts that begin alike, with the same image, stand in one row of the batch: first what they share,
then each prompt's own tokens in a slot of its own, of which the other slots see nothing. So the
keys and values of an image are there once, however many questions are asked about it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from transformers import DynamicCache

from locvlm.errors import DataError
from locvlm.models.attention import is_flash
from locvlm.models.language import caching, picking
from locvlm.models.layout import find_layout
from locvlm.processor import Prompt

if TYPE_CHECKING:
    from locvlm.models.locvlm import LocVLM

SHARED, PADDING = -1, -2  # owners of cached tokens beside the slots, which count from 0


class Piece(NamedTuple):
    """Tokens of a slot, and the position of the first one."""

    slot: int
    start: int
    ids: Tensor


@dataclass(slots=True)
class Read:
    """Prompts that the language model has read, in R rows of M slots.

    Args:
        cache: keys and values of R rows.
        owners: (R, T) whose each cached token is: a slot's, `SHARED` by all, or `PADDING`.
        parents: (R, M) the slot whose tokens a slot sees too; its own number: none.
        lengths: (R, M) tokens before each slot's next one, without padding.
        logits: (R, M, V) of the tokens that come next; meaningless in slots that are not used.
        prompts: the prompt in each of the R * M slots, row by row; -1 where none is.
    """

    cache: DynamicCache
    owners: Tensor
    parents: Tensor
    lengths: Tensor
    logits: Tensor
    prompts: list[int]

    def say(self, model: "LocVLM", ids: Tensor) -> None:
        """Reads one more token in each slot, (R * M,) ids."""
        ids = ids.view(self.lengths.shape)
        slots = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
        self.logits = self._read(model, ids, slots, self.lengths)
        self.lengths = self.lengths + 1

    def keep(self, going: Sequence[int]) -> list[int]:
        """Drops all slots but those of `going`, which count row by row.

        Returns:
            For each slot that there is now, the number that it had.
        """
        n_slots = self.lengths.shape[1]
        rows: dict[int, list[int]] = {}
        for place in going:
            rows.setdefault(place // n_slots, []).append(place % n_slots)
        most = max(map(len, rows.values()))
        if len(rows) * most == len(self.prompts):
            return list(range(len(self.prompts)))
        # Rows with fewer of them keep some that are done.
        kept = [
            [*own, *(slot for slot in range(n_slots) if slot not in own)][:most]
            for own in rows.values()
        ]
        device = self.lengths.device
        row, slot = torch.tensor(list(rows), device=device), torch.tensor(kept, device=device)
        number = torch.full((len(kept), n_slots), PADDING, device=device)
        number.scatter_(1, slot, torch.arange(most, device=device).expand_as(slot))
        owners = self.owners[row]
        self.owners = torch.where(owners < 0, owners, number.gather(1, owners.clamp(min=0)))
        self.cache.batch_select_indices(row)
        self.parents = torch.arange(most, device=device).expand_as(slot)
        self.lengths = self.lengths[row].gather(1, slot)
        self.logits = self.logits[row[:, None], slot]
        places = [r * n_slots + s for r, own in zip(rows, kept, strict=True) for s in own]
        self.prompts = [self.prompts[place] for place in places]
        return places

    def after(self, model: "LocVLM", texts: Sequence[tuple[int, Tensor]]) -> list[Tensor]:
        """The logits behind each token of texts that go on from slots; nothing follows them.

        Args:
            model: that has read the prompts.
            texts: (slot, its number counted row by row; (A,) ids of at least one token).

        Returns:
            (A, V) for each text.
        """
        n_slots = self.lengths.shape[1]
        lengths = self.lengths.flatten().tolist()
        rows: list[list[Piece]] = [[] for _ in self.lengths]
        parents: list[list[int]] = [list(range(n_slots)) for _ in self.lengths]
        if is_flash(model.language_model):  # takes no masks: each text gets a row of its own
            self._split([place for place, _ in texts])
            rows = [[Piece(0, lengths[place], ids)] for place, ids in texts]
            logits = self._read(model, *_laid_out(model, rows))
            return [own[: len(ids)] for own, (_, ids) in zip(logits, texts, strict=True)]
        places = []
        for place, ids in texts:
            row, slot = divmod(place, n_slots)
            start = sum(len(piece.ids) for piece in rows[row])
            places.append((row, slice(start, start + len(ids))))
            rows[row].append(Piece(len(parents[row]), lengths[place], ids))
            parents[row].append(slot)
        most = max(map(len, parents))
        filled = [[*own, *range(len(own), most)] for own in parents]
        self.parents = torch.tensor(filled, device=self.lengths.device)
        logits = self._read(model, *_laid_out(model, rows))
        return [logits[place] for place in places]

    def _split(self, rows: Sequence[int]) -> None:
        """Gives rows of one slot each, which may occur many times, in this order."""
        chosen = torch.tensor(rows, device=self.lengths.device)
        self.cache.batch_select_indices(chosen)
        self.owners, self.parents = self.owners[chosen], self.parents[chosen]

    def _read(
        self,
        model: "LocVLM",
        ids: Tensor,
        slots: Tensor,
        positions: Tensor,
        pick: Callable[[Tensor], Tensor] = lambda hidden: hidden,
    ) -> Tensor:
        """Reads (R, A) tokens; `pick` chooses of which of them the logits are wanted."""
        self.owners = torch.cat([self.owners, slots], dim=1)
        with picking(model.language_model, pick):
            logits: Tensor = model.language_model(
                input_ids=ids,
                attention_mask=self._mask(slots, model.language_model.dtype),
                position_ids=positions,
                **caching(model.language_model, self.cache),
            ).logits
        return logits

    def _mask(self, slots: Tensor, dtype: torch.dtype) -> Tensor | None:
        """What each of the last tokens sees: the shared ones, its slot's and its parent's."""
        if self.parents.shape[1] == 1:  # nothing but padding is hidden; any attention can do that
            return None if bool((self.owners != PADDING).all()) else self.owners != PADDING
        n_keys, n_queries = self.owners.shape[1], slots.shape[1]
        keys, queries = self.owners[:, None], slots[:, :, None]
        parents = self.parents.gather(1, slots.clamp(min=0))[:, :, None]
        index = torch.arange(n_keys, device=slots.device)
        before = index <= index[n_keys - n_queries :, None]
        seen = (keys == SHARED) | (((keys == queries) | (keys == parents)) & before)
        least = torch.finfo(dtype).min
        return torch.zeros_like(seen, dtype=dtype).masked_fill(~seen, least)[:, None]


def read_prompts(model: "LocVLM", prompts: Sequence[Prompt]) -> Read:
    """Lets the language model read prompts, all at once.

    An image is encoded and read once for all prompts whose `pixel_values` are the same tensor, and
    so is the text that they have in common up to where they differ. (With flash attention, which
    takes no masks, each prompt is read alone.)

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
    texts = [prompt["input_ids"] for prompt in prompts]
    groups = list(_groups(model, prompts))
    starts = [_n_shared([texts[n] for n in group]) for group in groups]
    n_slots = max(map(len, groups))
    # Rows of slots that nobody uses would cost more than is shared.
    if len(groups) * n_slots > 2 * len(prompts) or n_slots == 1 or not min(starts):
        return _read_first(model, [[n] for n in range(len(prompts))], texts, prompts)
    shared = [texts[group[0]][:start] for group, start in zip(groups, starts, strict=True)]
    state = _read_first(model, groups, shared, prompts)
    rows = [
        [Piece(slot, start, texts[n][start:]) for slot, n in enumerate(group)]
        for group, start in zip(groups, starts, strict=True)
    ]
    ids, slots, positions = _laid_out(model, rows)
    counts = torch.zeros(len(rows), n_slots, dtype=torch.long)
    for row, pieces in enumerate(rows):
        counts[row, : len(pieces)] = torch.tensor([len(piece.ids) for piece in pieces])
    counts = counts.to(model.device)
    state.lengths += counts
    ends = counts.cumsum(dim=1) - 1  # those of slots without a prompt are their neighbours'
    of_row = torch.arange(len(rows), device=model.device)[:, None]
    state.logits = state._read(model, ids, slots, positions, lambda hidden: hidden[of_row, ends])
    return state


def _groups(model: "LocVLM", prompts: Sequence[Prompt]) -> Iterator[list[int]]:
    """The places of prompts with one image and one text before it; all others stand alone."""
    alone = is_flash(model.language_model)
    groups: dict[tuple[object, ...], list[int]] = {}
    for n, prompt in enumerate(prompts):
        images = prompt["pixel_values"]
        places = (prompt["input_ids"] == model.image_token_id).nonzero()
        if len(images) and len(places) and not alone:
            before = tuple(prompt["input_ids"][: int(places[-1]) + 1].tolist())
            groups.setdefault((id(images), before), []).append(n)
        else:
            groups[n,] = [n]
    yield from groups.values()


def _n_shared(texts: Sequence[Tensor]) -> int:
    """Tokens that all texts begin with; one of each is always left to read."""
    n = min(map(len, texts)) - 1
    for other in texts[1:]:
        n = int((texts[0][:n] == other[:n]).long().cumprod(dim=0).sum())
    return n


def _read_first(
    model: "LocVLM",
    groups: Sequence[Sequence[int]],
    texts: Sequence[Tensor],
    prompts: Sequence[Prompt],
) -> Read:
    """The texts with which the rows begin, padded on the left: the last logits are theirs."""
    lengths = torch.tensor([len(text) for text in texts])
    longest, n_slots = int(lengths.max()), max(map(len, groups))
    ids = torch.zeros(len(texts), longest, dtype=torch.long)
    for row, text in zip(ids, texts, strict=True):
        row[longest - len(text) :] = text
    mask = torch.arange(longest) >= longest - lengths[:, None]
    # Both are asked for while the device need not tell them.
    is_full, layout = bool(mask.all()), find_layout(ids, model.image_token_id).to(model.device)
    ids, mask, lengths = (x.to(model.device) for x in (ids, mask, lengths))
    images = [prompts[group[0]]["pixel_values"] for group in groups]
    cache = DynamicCache(config=model.language_model.config)
    logits = model.language_model(
        inputs_embeds=model.embed(ids, torch.cat(images).to(model.device), layout),
        attention_mask=None if is_full else mask,
        position_ids=(mask.long().cumsum(dim=1) - 1).clamp(min=0),
        **caching(model.language_model, cache),
        logits_to_keep=1,
    ).logits
    return Read(
        cache,
        owners=torch.where(mask, SHARED, PADDING),
        parents=torch.arange(n_slots, device=model.device).expand(len(groups), n_slots),
        lengths=lengths[:, None].repeat(1, n_slots),
        logits=logits,
        prompts=[n for group in groups for n in [*group, *[-1] * (n_slots - len(group))]],
    )


def _laid_out(model: "LocVLM", rows: Sequence[Sequence[Piece]]) -> tuple[Tensor, Tensor, Tensor]:
    """(R, A) ids, slots and positions of pieces one after the other, padded on the right."""
    longest = max(sum(len(piece.ids) for piece in row) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    slots, positions = torch.full_like(ids, PADDING), torch.zeros_like(ids)
    for row, pieces in enumerate(rows):
        at = 0
        for slot, start, text in pieces:
            here = slice(at, at + len(text))
            ids[row, here], slots[row, here] = text, slot
            positions[row, here] = start + torch.arange(len(text))
            at += len(text)
    return ids.to(model.device), slots.to(model.device), positions.to(model.device)
