"""Turns a data set into shards: `python -m locvlm.prepare source=coco instances=... images=...`.

    python -m locvlm.prepare source=coco instances=FILE images=FOLDER output=FOLDER
    python -m locvlm.prepare source=llava conversations=FILE images=FOLDER output=FOLDER

docs/readers.md names the sources: `coco`, `llava`, `refcoco` and others. Shards hold annotated
images or, with `objectives=loc_neg_rev`, conversations about them, drawn once and for all.
Records that cannot be used are set aside, with their reasons, in quarantine.jsonl.

`benchmark=hal` builds the questions of a benchmark instead: see `locvlm.build`.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Literal, Protocol

from omegaconf import MISSING, DictConfig, OmegaConf

from locvlm.cli import hydra_command, print_table, set_up_logging
from locvlm.errors import ConfigError, DataError

if TYPE_CHECKING:
    from locvlm.data import Quarantine
    from locvlm.objectives import Mix
    from locvlm.scenes import Talk, World
    from locvlm.types import Sample


@dataclass
class PrepareConfig:
    """What `conf/prepare.yaml` may hold; Hydra refuses any other top-level key."""

    source: Any = MISSING
    instances: str | None = None
    conversations: str | None = None
    images: str | None = None
    output: str = MISSING
    objectives: Any = MISSING
    prompts: Any = MISSING
    description_share: float = 1.0
    answer_weight: float = 1.0
    number_weights: list[float] = field(default_factory=list)
    seed: int = 0
    per_shard: int = 1000
    overwrite: bool = False


class Reader(Protocol):
    """Yields samples, and sets aside what it cannot read."""

    @property
    def sources(self) -> list[str]:
        """Files that are read."""

    def read(self, quarantine: "Quarantine") -> "Iterator[Sample]":
        """All samples."""


def prepare(
    reader: Reader,
    output: str | Path,
    *,
    objective: "Mix | None" = None,
    seed: int = 0,
    per_shard: int = 1000,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Writes all samples of `reader` whose image can be decoded as shards into `output`.

    Args:
        reader: of the data set.
        output: folder of the shards.
        objective: makes the conversations that the shards hold, once and for all; None, or one
            without objectives, stores annotated images, from which training draws afresh.
        seed: of these conversations.
        per_shard: samples that go into each shard; it holds fewer where some are set aside.
        overwrite: replace shards that are in the folder.

    Returns:
        The manifest, as it stands in the folder.

    Raises:
        ConfigError: `output` holds shards already.
        DataError: the reader finds no usable sample.
    """
    from rich.console import Console
    from rich.progress import track

    from locvlm.data.manifest import MANIFEST
    from locvlm.data.quarantine import Quarantine
    from locvlm.data.shard_writer import write_shards
    from locvlm.io import sha256

    if (Path(output) / MANIFEST).exists() and not overwrite:
        raise ConfigError(
            "this folder holds shards already",
            where=str(output),
            fix="choose another output, or overwrite=true",
        )
    quarantine = Quarantine()
    about: dict[str, Any] = {
        "reader": {"name": type(reader).__name__, **asdict(reader)},  # type: ignore[call-overload]
        "sources": {file: sha256(Path(file)) for file in reader.sources},
    }
    if objective:
        about["objective"] = {**asdict(objective), "seed": seed}
    # Where nobody watches, `track` would print an empty line.
    watched = Console().is_terminal
    return write_shards(
        track(reader.read(quarantine), "Writing shards", transient=True, disable=not watched),
        output,
        quarantine=quarantine,
        per_shard=per_shard,
        about=about,
        finish=partial(usable, objective=objective, seed=seed),
    )


def usable(
    samples: "Iterable[Sample]",
    quarantine: "Quarantine",
    n_threads: int,
    *,
    objective: "Mix | None",
    seed: int,
) -> "Iterator[Sample]":
    """What is stored of samples: those whose image can be decoded, with their conversations.

    Args:
        samples: as a reader yields them.
        quarantine: where the others go.
        n_threads: decode images at once.
        objective: as in `prepare`.
        seed: of the conversations.
    """
    from locvlm.data.quarantine import readable

    samples = readable(samples, quarantine, n_threads)
    return finished(samples, objective, seed, quarantine) if objective else samples


def finished(
    samples: "Iterable[Sample]", objective: "Mix", seed: int, quarantine: "Quarantine"
) -> "Iterator[Sample]":
    """Annotated images with the conversations that an objective makes about them.

    Args:
        samples: those with a conversation of their own keep it.
        objective: asks about the others.
        seed: of the drawing; each conversation depends on it and the sample's key only.
        quarantine: counts the images about which nothing can be asked; they are left out.
    """
    for sample in samples:
        if sample.messages:
            yield sample
        elif messages := objective(sample, Random(f"{seed} 0 {sample.key}")):
            yield replace(sample, messages=tuple(messages))
        else:
            quarantine.left_out["image without a question"] += 1


def scene_shards(
    folder: str | Path,
    split: str,
    kind: Literal["localization", "conversation"],
    *,
    world: "World",
    talk: "Talk",
    splits: Mapping[str, int],
    seed: int = 0,
) -> str:
    """The shards of one split of the built-in scenes, drawn and prepared where they are missing.

    They go the way of real data: images, COCO instances and LLaVA conversations are written into
    `folder`, and read from there.

    Args:
        folder: where the scenes stand, or are to stand.
        split: train, val or test.
        kind: annotated images, or finished conversations.
        world: what scenes look like.
        talk: what is said about them.
        splits: number of scenes in each split.
        seed: of the scenes.

    Returns:
        The folder of shards.
    """
    from locvlm.data.readers import CocoReader, LlavaReader
    from locvlm.data.shards import Shards
    from locvlm.io import locked
    from locvlm.scenes import write_scenes

    with locked(folder):  # each process of a distributed run comes here
        root = write_scenes(folder, world, talk, splits=splits, seed=seed)  # type: ignore[arg-type]
        output = root / "shards" / f"{split}-{kind}"
        files = root / split
        reader: Reader = (
            CocoReader(str(files / "instances.json"), str(files / "images"))
            if kind == "localization"
            else LlavaReader(str(files / "conversations.json"), str(files / "images"))
        )
        try:
            Shards(output)
        except DataError:  # missing, or of another version
            prepare(reader, output, overwrite=True)
    return str(output)


@hydra_command("prepare", PrepareConfig)
def main(cfg: DictConfig) -> None:
    """Prepares what `cfg` names and prints what was written."""
    from hydra.utils import instantiate

    from locvlm.config import check_targets

    set_up_logging()
    check_targets(OmegaConf.to_container(cfg, resolve=True))
    manifest = prepare(
        instantiate(cfg.source),
        cfg.output,
        objective=instantiate(cfg.objectives, _convert_="all"),
        seed=cfg.seed,
        per_shard=cfg.per_shard,
        overwrite=cfg.overwrite,
    )
    print_table(f"Shards in {cfg.output}", ["what", "number"], list(_rows(manifest)))
    if manifest["counts"].get("with_plain_locations"):
        print(
            "Plain locations are boxes or points as text, whose numbers are learned as they stand. "
            "The dialect\nthat they are written in makes them locations: "
            "+dialect@source.dialect=llava, or another"
        )
    if manifest["quarantined"]["records"]:
        print(f"Set aside, with reasons: {cfg.output}/quarantine.jsonl")


def _rows(manifest: dict[str, Any]) -> Iterator[tuple[str, object]]:
    yield "shards", len(manifest["shards"])
    yield from manifest["counts"].items()
    yield "categories", len(manifest["categories"])
    for reason, number in manifest["left_out"].items():
        yield f"left out: {reason}", number
    for reason, number in manifest["quarantined"]["reasons"].items():
        yield f"set aside: {reason}", number


if __name__ == "__main__":
    if sys.argv[1:2] == ["convert"]:
        from locvlm import convert

        convert.main(sys.argv[2:])
    elif any(argument.startswith("benchmark=") for argument in sys.argv[1:]):
        from locvlm import build

        build.main(sys.argv[1:])
    else:
        main()
