"""Batches in a fixed order, from wherever a run stopped."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from locvlm.data.mixture import Draw, Mixture
from locvlm.data.quarantine import BadSamples
from locvlm.data.stream import ATTEMPTS, Examples, Loaded
from locvlm.errors import ConfigError, DataError
from locvlm.processor import Example


class BatchSampler(Sampler[list[Draw]]):
    """The draws of an epoch that fall to one rank, in batches; all ranks get as many.

    A step takes the next `world_size` * `batch_size` draws, however many ranks share them. Where an
    epoch does not divide by the ranks, its last step borrows up to `world_size` - 1 draws of the
    next epoch.

    Args:
        mixture: the order of all draws.
        batch_size: draws per batch and rank; the last batch of an epoch may be smaller.
        rank: of this process.
        world_size: number of processes.
        fixed: always the order of epoch 0, for validation.
    """

    def __init__(
        self,
        mixture: Mixture,
        batch_size: int,
        *,
        rank: int = 0,
        world_size: int = 1,
        fixed: bool = False,
    ):
        self.mixture, self.batch_size = mixture, batch_size
        self.rank, self.world_size, self.fixed = rank, world_size, fixed
        self.epoch = 0
        self.start = 0  # batches of the epoch that an interrupted run has had

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch of the next iteration; Lightning calls it before each one."""
        if epoch != self.epoch and not self.fixed:
            self.epoch, self.start = epoch, 0

    def __len__(self) -> int:
        return math.ceil(len(self.mixture) / (self.world_size * self.batch_size))

    def __iter__(self) -> Iterator[list[Draw]]:
        order = self.mixture.epoch(self.epoch)
        if missing := -len(order) % self.world_size:
            borrowed = np.resize(self.mixture.epoch(self.epoch + 1), (missing, 3))
            order = np.concatenate([order, borrowed])
        own = order[self.rank :: self.world_size]
        firsts = range(self.start * self.batch_size, len(own), self.batch_size)
        return (
            [Draw(*row) for row in own[first : first + self.batch_size].tolist()]
            for first in firsts
        )


class Loader:
    """Batches of an epoch of examples, for a Trainer or a plain loop.

    Its state is a position in an order that depends on neither workers nor ranks. So a run can be
    stopped anywhere and go on with the very next batch, with another number of workers too, or of
    processes that together take as many samples per step. Rank 0's state, the only one that
    Lightning stores, serves all ranks. Lightning sees no
    `DataLoader` here: it would deal the samples of each rank out to all ranks once more.

    Args:
        examples: by draw.
        sampler: the order of their batches.
        collate: examples to a batch.
        bad_samples: counts what was skipped.
        num_workers: processes that decode and tokenize; 0 works in this process.

    Attributes:
        drawn: what the last batch was made of; `examples.sample` gives it.
    """

    def __init__(
        self,
        examples: Examples,
        sampler: BatchSampler,
        collate: Callable[[Sequence[Example]], Any],
        *,
        bad_samples: BadSamples,
        num_workers: int = 0,
    ):
        self.examples, self.sampler, self.bad_samples = examples, sampler, bad_samples
        self.batch_sampler = None  # Lightning asks for it where there is a `sampler`
        bad_samples.add(examples.unreadable)
        self.drawn: list[Draw] = []
        self._n_done = 0
        self._loader = DataLoader(
            examples,
            batch_sampler=sampler,
            num_workers=num_workers,
            collate_fn=_Collate(collate),
            generator=torch.Generator(),  # else each iteration would draw from the model's own
            pin_memory=torch.cuda.is_available(),
            persistent_workers=num_workers > 0,
            prefetch_factor=4 if num_workers else None,
        )

    def __len__(self) -> int:
        """Batches per epoch and rank."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self._loader)
        self._n_done, self.sampler.start = self.sampler.start, 0
        return self._checked(batches)

    def state_dict(self) -> dict[str, Any]:
        """The epoch, how many of its batches were given out, and what their order depends on."""
        return {"epoch": self.sampler.epoch, "batches": self._n_done, "order": self._order()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on where `state` was taken.

        Raises:
            ConfigError: the data or the number of samples per step are others, and the interrupted
                epoch was not at its end.
        """
        epoch, batches = state["epoch"], state["batches"]
        if batches >= len(self):
            epoch, batches = epoch + 1, 0
        changed = [
            f"{name} was {before} and is {now}"
            for name, now in self._order().items()
            if (before := state["order"][name]) != now
        ]
        if batches and changed:
            raise ConfigError(
                f"cannot go on in the middle of an epoch: {'; '.join(changed)}",
                where="data",
                fix="go on with the settings and shards of the interrupted run; the numbers of "
                "workers and processes may change, where data.batch_size times processes stays",
            )
        self.sampler.epoch, self.sampler.start = epoch, batches

    def _order(self) -> dict[str, Any]:
        mixture = {**asdict(self.sampler.mixture), "shards": self.sampler.mixture.lengths}
        per_step = self.sampler.batch_size * self.sampler.world_size
        return mixture | {"samples per step": per_step}

    def _checked(self, batches: Iterator[tuple[Any, list[str], list[Draw]]]) -> Iterator[Any]:
        for batch, skipped, drawn in batches:
            self.bad_samples.add(skipped)
            if batch is None:
                raise DataError(
                    f"{ATTEMPTS} samples in a row give nothing to learn",
                    where=", ".join(str(source.shards) for source in self.examples.sources),
                    fix="look at them with python -m locvlm.audit; the last reason: "
                    f"{skipped[-1] if skipped else _NOT_ASKED}",
                )
            self._n_done += 1
            self.drawn = drawn
            yield batch
        self.sampler.set_epoch(self.sampler.epoch + 1)
        self._n_done = 0


_NOT_ASKED = (
    "no question could be asked about them; shards of conversations are for "
    "data.train.conversation.shards"
)


class _Collate:
    """Collates in a worker, where nothing is raised: torch would bury it in a traceback."""

    def __init__(self, collate: Callable[[Sequence[Example]], Any]):
        self.collate = collate

    def __call__(self, loaded: Sequence[Loaded]) -> tuple[Any, list[str], list[Draw]]:
        skipped = [reason for one in loaded for reason in one["skipped"]]
        examples = [one["example"] for one in loaded if one["example"] is not None]
        batch = self.collate(examples) if len(examples) == len(loaded) else None
        return batch, skipped, [one["draw"] for one in loaded]
