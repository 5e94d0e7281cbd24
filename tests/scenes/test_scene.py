import hashlib
import io
import os
import subprocess
import sys
from itertools import islice

import numpy as np
import pytest
from PIL import Image

from locvlm.errors import ConfigError
from locvlm.scenes.scene import SPLITS, layout_digest, scenes
from locvlm.scenes.world import World

PRINT_DIGEST = """
import hashlib
from random import Random
from locvlm.scenes import World, scenes
digest = hashlib.sha256()
for scene in scenes(World(), "test", 20, seed=3):
    digest.update(scene.image.tobytes() + repr((scene.objects, scene.absent_descriptions)).encode())
print(digest.hexdigest())
"""


def digests(world, split, count, seed=0):
    return [layout_digest(scene.objects) for scene in scenes(world, split, count, seed)]


def test_scenes_are_the_same_in_every_process():
    runs = [
        subprocess.run(
            [sys.executable, "-c", PRINT_DIGEST],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert len(runs[0]) == 65
    assert runs[0] == runs[1]


def test_layouts_stay_as_they_were_drawn_before(world):
    """Where this fails on purpose, raise `VERSION` in write.py: old folders are stale then."""
    whole = hashlib.sha256(b"".join(digests(world, "train", 100)))
    assert whole.hexdigest()[:16] == "50479965fa56f9ae"


def test_no_scene_is_in_two_splits_whatever_the_seeds(world):
    found = {
        split: {digest for seed in (0, 1) for digest in digests(world, split, 200, seed)}
        for split in SPLITS
    }
    assert not found["train"] & found["val"]
    assert not found["train"] & found["test"]
    assert not found["val"] & found["test"]


def test_a_small_world_runs_out_of_scenes_instead_of_repeating_them():
    tiny = World(
        image_size=8, shapes=["square", "circle"], colors={"red": [255, 0, 0], "blue": [0, 0, 255]},
        min_objects=1, max_objects=1, min_side=0.5, max_side=0.5,
    )  # fmt: skip
    found = [digest for split in SPLITS for digest in exhaust(tiny, split)]
    assert len(found) == len(set(found)) == 2 * 2 * 5 * 5


def exhaust(world, split):
    """All scenes of a split; it ends with a plain error."""
    found = []
    with pytest.raises(ConfigError, match="different scenes"):
        found.extend(layout_digest(scene.objects) for scene in scenes(world, split))
    return found


def test_more_scenes_begin_with_the_same_ones(world):
    assert list(scenes(world, "val", 3)) == list(islice(scenes(world, "val"), 3))


def test_seeds_and_backgrounds_differ(world):
    first, other = (next(scenes(world, "train", seed=seed)) for seed in (0, 1))
    assert first.objects != other.objects
    assert first.texture != other.texture


def test_digests_ignore_the_order_of_objects(world):
    objects = next(scenes(world, "train")).objects
    assert layout_digest(objects) == layout_digest(objects[::-1])
    assert layout_digest(objects) != layout_digest(objects[1:])


def test_absent_shapes_and_descriptions_are_not_shown(world):
    for scene in scenes(world, "train", 50):
        shown = {item.shape for item in scene.objects}
        assert shown | set(scene.absent) == set(world.shapes)
        assert not shown & set(scene.absent)
        assert {name.split()[1] for name in scene.absent_descriptions} == set(scene.absent)
        assert {name.split()[0] for name in scene.absent_descriptions} <= set(world.colors)


def test_a_scene_is_a_sample_with_its_picture(world):
    scene = next(scenes(world, "val"))
    sample = scene.sample()
    with Image.open(io.BytesIO(sample.image)) as image:
        np.testing.assert_array_equal(np.asarray(image), scene.image)
        assert image.size == sample.size == (64, 64)
    assert sample.key == "val-000000"
    assert [instance.description for instance in sample.instances] == [
        item.description for item in scene.objects
    ]
    assert sample.absent == scene.absent + scene.absent_descriptions


def test_refuses_an_unknown_split(world):
    with pytest.raises(ConfigError, match="no split named 'dev'"):
        next(scenes(world, "dev"))
