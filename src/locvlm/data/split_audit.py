"""Audits a split: all samples of its sources, and what is learned of the first ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from locvlm.data.audit import Supervision, supervision
from locvlm.data.leaks import NO_DIGEST, NO_ID, Benchmark, Leak, find_leak
from locvlm.data.mixture import Draw
from locvlm.data.module import LocVLMDataModule
from locvlm.data.shards import Shards
from locvlm.data.survey import Survey, doubles, readable_samples, survey


class Doubles(NamedTuple):
    """Samples that should differ and do not: how many groups, and where the first one stands."""

    number: int = 0
    first: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceAudit:
    """What was found in a source.

    Args:
        name: its key in the config, such as data.train.localization.
        folder: of its shards.
        share: of the draws of an epoch, 0 to 1.
        survey: of its readable samples.
        lost: why others cannot be read: their shards are missing or cut short.
        same_key: samples of one key.
        same_image: samples of one image.
    """

    name: str
    folder: str
    share: float
    survey: Survey
    lost: Sequence[str] = ()
    same_key: Doubles = Doubles()
    same_image: Doubles = Doubles()

    @property
    def n_samples(self) -> int:
        """Samples that its index names."""
        return self.survey.n_samples + len(self.lost)

    @property
    def n_coco_names(self) -> int:
        """Samples whose image has the name of a COCO image."""
        return sum(one != NO_ID for one in self.survey.coco_ids)


class Named(NamedTuple):
    """A sample by its names: of its source in the config, its own, and where it stands."""

    source: str
    key: str
    where: str


@dataclass(frozen=True, slots=True)
class Audit:
    """What was found in a split.

    Args:
        split: train or val.
        sources: over all samples.
        learned: of the first samples that training draws.
        leaks: one for each benchmark; positions count through the sources.
        leaked: the samples of each leak.
        max_length: tokens of a sequence at most.
        max_bad_samples: that training skips before it stops.
    """

    split: str
    sources: Sequence[SourceAudit]
    learned: Supervision
    leaks: Sequence[Leak] = ()
    leaked: Sequence[Sequence[Named]] = ()
    max_length: int = 2048
    max_bad_samples: int = 100

    @property
    def n_samples(self) -> int:
        return sum(source.n_samples for source in self.sources)

    @property
    def bad(self) -> list[str]:
        """Why samples cannot be used, the first of each source; as many as `n_bad` or fewer."""
        named = [why for source in self.sources for why in source.lost]
        named += [str(one) for s in self.sources for one in s.survey.examples.get("bad", [])]
        return named + [
            bad.why for bad in self.learned.bad if self._is_news(bad.source, bad.sample)
        ]

    @property
    def n_bad(self) -> int:
        """Samples that cannot be used: lost, damaged, or found to be bad when they were encoded."""
        counted = sum(len(s.lost) + s.survey.problems["bad"] for s in self.sources)
        encoded = {(bad.source, bad.sample) for bad in self.learned.bad}
        return counted + sum(self._is_news(*place) for place in encoded)

    def _is_news(self, source: int, sample: int) -> bool:
        """Whether the survey took this sample, which cannot be encoded, for a good one."""
        return self.sources[source].survey.keys[sample] != NO_DIGEST


def audit_split(
    module: LocVLMDataModule,
    split: str,
    names: Sequence[str],
    draws: Sequence[Draw],
    benchmarks: Sequence[Benchmark] = (),
    on_sample: Callable[[], object] = lambda: None,
) -> Audit:
    """Reads all samples of a split and encodes some.

    Args:
        module: of the data.
        split: train or val.
        names: of the sources that take part.
        draws: what is encoded.
        benchmarks: whose images should not be there.
        on_sample: called before each sample is read, for progress bars.

    Raises:
        ConfigError: no source of the split takes part.
        DataError: a folder holds no shards, or none that can be read.
    """
    examples = module.examples(split)
    counts = examples.mixture.counts()
    sources = [
        _source_audit(name, shards, count / sum(counts), on_sample)
        for name, shards, count in zip(names, examples.shards, counts, strict=True)
    ]
    coco_ids = np.concatenate([np.frombuffer(s.survey.coco_ids, np.int64) for s in sources])
    digests = np.concatenate([np.frombuffer(s.survey.digests, np.uint64) for s in sources])
    leaks = [find_leak(coco_ids, digests, benchmark) for benchmark in benchmarks]
    return Audit(
        split,
        sources,
        supervision(examples, draws),
        leaks,
        [_named(sources, examples.shards, leak.positions) for leak in leaks],
        max_length=module.processor.max_length,
        max_bad_samples=module.bad_samples.limit,
    )


def _source_audit(
    name: str, shards: Shards, share: float, on_sample: Callable[[], object]
) -> SourceAudit:
    found = survey(readable_samples(shards, on_sample))

    def named(groups: list[list[int]]) -> Doubles:
        first = (shards[int(shards.readable[n])].source for group in groups[:1] for n in group[:2])
        return Doubles(len(groups), tuple(first))

    return SourceAudit(
        name,
        str(shards.folder),
        share,
        found,
        shards.unreadable(),
        named(doubles(found.keys)),
        named(doubles(found.digests)),
    )


def _named(
    sources: Sequence[SourceAudit], opened: Sequence[Shards], positions: Sequence[int]
) -> list[Named]:
    """The samples at positions that count through the sources."""
    named = []
    starts = np.cumsum([0, *(source.survey.n_samples for source in sources)])
    for position in positions:
        number = int(np.searchsorted(starts, position, side="right")) - 1
        shards = opened[number]
        sample = shards[int(shards.readable[position - starts[number]])]
        named.append(Named(sources[number].name, sample.key, sample.source))
    return named
