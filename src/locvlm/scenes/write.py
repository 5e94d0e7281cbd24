"""Writes scenes as real data look: images, COCO instances and LLaVA conversations per split.

The folder holds manifest.json and, for each split, images/*.png, instances.json and
conversations.json.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from random import Random
from typing import Any

from locvlm.errors import LocVLMError
from locvlm.io import atomic_folder, read_json, write_json
from locvlm.scenes.scene import Scene, Split, scenes
from locvlm.scenes.shapes import mask
from locvlm.scenes.talk import Talk
from locvlm.scenes.world import SceneObject, World

FORMAT = "locvlm scenes"
VERSION = 1  # raise it whenever the same settings draw or say something else
MANIFEST = "manifest.json"


def write_scenes(
    folder: str | Path,
    world: World,
    talk: Talk,
    *,
    splits: Mapping[Split, int],
    seed: int = 0,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Writes the splits of a world into `folder`, whole or not at all.

    A folder that holds the very same scenes already is left as it is; one with other scenes is
    replaced.

    Args:
        folder: where to.
        world: what scenes look like.
        talk: what is said about them.
        splits: number of scenes in each split.
        seed: gives other scenes; none of any seed's test is in any seed's training split.
        on_progress: told the number of scenes drawn and of all.

    Returns:
        The folder.

    Raises:
        LocVLMError: the folder holds something else.
    """
    folder = Path(folder)
    spec = _plain({"world": world, "talk": talk, "splits": splits, "seed": seed})
    manifest = {"format": FORMAT, "version": VERSION, "spec": spec}
    if _holds(folder, manifest):
        return folder
    counts: dict[str, Any] = {}
    done, total = 0, sum(splits.values())
    with atomic_folder(folder, MANIFEST) as temporary:
        for split, n_scenes in splits.items():
            images = temporary / split / "images"
            images.mkdir(parents=True)
            drawn = []
            for scene in scenes(world, split, n_scenes, seed):
                (images / f"{scene.key}.png").write_bytes(scene.png())
                drawn.append(scene)
                on_progress(done + len(drawn), total)
            records = [talk.record(scene, Random(f"talk {seed} {scene.key}")) for scene in drawn]
            write_json(images.parent / "instances.json", coco_instances(drawn, world, done + 1))
            write_json(images.parent / "conversations.json", records)
            counts[split] = _counts(drawn, records)
            done += len(drawn)
        write_json(temporary / MANIFEST, {**manifest, "counts": counts})
    return folder


def coco_instances(drawn: Sequence[Scene], world: World, first_id: int = 1) -> dict[str, Any]:
    """Scenes in COCO's format of instances.

    Beyond COCO, an annotation has `description` and `attributes`, and an image `absent`
    (categories) and `absent_descriptions` (phrases) of what it does not show.

    Args:
        drawn: the scenes.
        world: whose shapes are the categories.
        first_id: id of the first image.
    """
    ids = {shape: number for number, shape in enumerate(world.shapes, start=1)}
    side = world.image_size
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, scene in enumerate(drawn, start=first_id):
        images.append(
            {
                "id": image_id,
                "file_name": f"{scene.key}.png",
                "width": side,
                "height": side,
                "absent": list(scene.absent),
                "absent_descriptions": list(scene.absent_descriptions),
            }
        )
        for item in scene.objects:
            place = {"id": len(annotations) + 1, "image_id": image_id}
            annotations.append(place | _annotation(item, ids[item.shape]))
    categories = [{"id": n, "name": shape, "supercategory": "shape"} for shape, n in ids.items()]
    info = {"description": "Built-in scenes of locvlm", "version": str(VERSION)}
    return {
        "info": info,
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }


def _annotation(item: SceneObject, category_id: int) -> dict[str, Any]:
    x1, y1, x2, y2 = map(int, item.box)
    return {
        "category_id": category_id,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": round(float(mask(item.shape, x2 - x1).sum()), 2),
        "iscrowd": 0,
        "description": item.description,
        "attributes": {"color": item.color},
    }


def _holds(folder: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether the folder holds what this manifest describes; refuses folders of another kind."""
    if not (folder / MANIFEST).is_file():
        return False
    found = read_json(folder / MANIFEST)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise LocVLMError(
            "this folder holds something else than scenes",
            where=str(folder),
            fix="choose another folder, or move this one away",
        )
    return all(found.get(key) == value for key, value in manifest.items())


def _counts(drawn: Sequence[Scene], records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "images": len(drawn),
        "annotations": sum(len(scene.objects) for scene in drawn),
        "conversations": dict(Counter(record["kind"] for record in records)),
        "turns": sum(len(record["conversations"]) // 2 for record in records),
    }


def _plain(value: Any) -> Any:
    """Nested dataclasses, mappings and sequences as JSON values, to be compared."""
    if is_dataclass(value) and not isinstance(value, type):
        named = {field.name: getattr(value, field.name) for field in fields(value)}
        return {"is": type(value).__name__, **_plain(named)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
