"""Whether a model was trained on the images that it is measured on."""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from locvlm.errors import DataError
from locvlm.types import Question

_COCO = re.compile(r"COCO_(?:train|val|test)\d{4}_\d{12}")
logger = logging.getLogger(__name__)


class Leakage(NamedTuple):
    """What was found, as JSON values for results.json, and a sentence for each of its readers."""

    record: dict[str, Any]
    notes: list[str]


def coco_notes(images: Iterable[str]) -> list[str]:
    """What must be known of a benchmark whose images have names of COCO; nothing of others.

    Args:
        images: their names.
    """
    found = {match[0] for name in set(images) if (match := _COCO.search(name))}
    if not found:
        return []
    return [
        f"{len(found):,} images are of COCO, by their names. COCO train2017, which many "
        "models learn from, holds most of val2014 and all images of RefCOCO: a model that was "
        "trained on it has seen them."
    ]


def leakage(name: str, questions: Sequence[Question], folders: Sequence[str]) -> Leakage:
    """Looks for the images of a benchmark in training data, by COCO id and by their bytes.

    Folders that cannot be read are named and left out: an evaluation does not fail for them.

    Args:
        name: of the benchmark.
        questions: all of them.
        folders: of shards.
    """
    from locvlm.data.leaks import Benchmark, find_leak
    from locvlm.data.shards import Shards
    from locvlm.data.survey import readable_samples, survey

    identities = _identities(questions)
    benchmark = Benchmark(
        name,
        np.array([one.coco_id for one in identities], dtype=np.int64),
        np.array([one.digest for one in identities], dtype=np.uint64),
    )
    found = []
    notes = []
    for folder in folders:
        logger.info("looking for the images of %s in %s", name, folder)
        try:
            found.append(survey(readable_samples(Shards(folder))))
        except DataError as error:
            notes.append(f"Training data that was not looked at: {folder} ({error.what})")
    coco_ids = np.concatenate([np.zeros(0, np.int64), *(np.array(s.coco_ids) for s in found)])
    digests = np.concatenate([np.zeros(0, np.uint64), *(np.array(s.digests) for s in found)])
    leak = find_leak(coco_ids, digests, benchmark)
    record = {
        "folders": list(folders),
        "samples": len(digests),
        "images": leak.n_images,
        "leaked": leak.n_leaked,
        "by_coco_id": leak.n_by_id,
        "by_bytes": leak.n_by_bytes,
        "not_compared": leak.n_unknown,
        "in_samples": len(leak.positions),
    }
    if found:
        notes.insert(0, _sentence(record))
    for note in notes if leak.n_leaked or len(found) < len(folders) else ():
        logger.warning("%s", note)
    return Leakage(record, notes)


def training_shards(config: Any) -> list[str]:
    """The folders of shards that a training read, from the config.yaml of its run.

    Data that are made when they are needed, such as the scenes, have no folder there.

    Args:
        config: its contents.
    """
    stages = _below(config, "stages")
    run = config.get("run") if isinstance(config, Mapping) else None
    sources = [
        source
        for stage in (run if isinstance(run, list) else stages)
        for source in _below(_below(_below(stages, stage), "data"), "train").values()
    ]
    folders = [source.get("shards") for source in sources if isinstance(source, Mapping)]
    return list(dict.fromkeys(folder for folder in folders if isinstance(folder, str)))


def _identities(questions: Sequence[Question]) -> list[Any]:
    """Of each image once."""
    from locvlm.data.leaks import Identity, coco_id, digest, identity

    found: dict[str, Identity] = {}
    for question in questions:
        key = question.image or question.sample.key
        if key in found:
            continue
        if question.image:
            data = Path(question.image).read_bytes()  # it was shown a moment ago
            found[key] = Identity(coco_id(question.image), digest(data))
        elif question.sample.image is not None:
            found[key] = identity(question.sample)
    return list(found.values())


def _sentence(record: Mapping[str, Any]) -> str:
    looked = (
        f"{record['images']:,} images were looked for in {record['samples']:,} training samples"
    )
    rest = f"; {record['not_compared']:,} cannot be compared" if record["not_compared"] else ""
    if not record["leaked"]:
        return (
            f"No image stands in the training data: {looked}, by COCO id and by their bytes{rest}."
        )
    return (
        f"{record['leaked']:,} of {record['images']:,} images stand in the training data "
        f"({record['by_coco_id']:,} by COCO id, {record['by_bytes']:,} by their bytes; in "
        f"{record['in_samples']:,} of {record['samples']:,} samples){rest}: results on them do not "
        "count."
    )


def _below(node: Any, key: str) -> Mapping[str, Any]:
    value = node.get(key) if isinstance(node, Mapping) else None
    return value if isinstance(value, Mapping) else {}
