import json
import os
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from locvlm.data.quarantine import Quarantine
from locvlm.data.readers.coco import CocoReader
from locvlm.data.readers.llava import LlavaReader
from locvlm.errors import LocVLMError
from locvlm.scenes.scene import scenes
from locvlm.scenes.write import write_scenes

COUNTS = {"train": 12, "val": 3, "test": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, world, talk):
    return write_scenes(tmp_path_factory.mktemp("data") / "scenes", world, talk, splits=COUNTS)


def read(folder, name):
    return json.loads((folder / name).read_text())


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_each_split_has_images_instances_and_conversations(folder):
    for split, count in COUNTS.items():
        names = sorted(path.name for path in (folder / split / "images").iterdir())
        images = read(folder, f"{split}/instances.json")["images"]
        records = read(folder, f"{split}/conversations.json")
        assert names == [f"{split}-{n:06d}.png" for n in range(count)]
        assert names == [image["file_name"] for image in images]
        assert names == [record["image"] for record in records]


def test_images_are_those_of_the_scenes(folder, world):
    for scene in scenes(world, "test", 4):
        with Image.open(folder / f"test/images/{scene.key}.png") as image:
            np.testing.assert_array_equal(np.asarray(image), scene.image)


def test_ids_are_unique_among_the_splits(folder):
    ids = [i["id"] for split in COUNTS for i in read(folder, f"{split}/instances.json")["images"]]
    assert ids == list(range(1, 20))


def test_annotations_have_cocos_fields_and_our_own(folder, world):
    coco = read(folder, "val/instances.json")
    scene = next(scenes(world, "val"))
    item = scene.objects[0]
    record = coco["annotations"][0]
    x1, y1, x2, y2 = item.box
    assert record["bbox"] == [x1, y1, x2 - x1, y2 - y1]
    assert 0 < record["area"] <= (x2 - x1) * (y2 - y1)
    assert record["iscrowd"] == 0
    assert record["description"] == item.description
    assert record["attributes"] == {"color": item.color}
    names = {category["id"]: category["name"] for category in coco["categories"]}
    assert names[record["category_id"]] == item.shape
    assert coco["images"][0]["absent"] == list(scene.absent)
    assert coco["images"][0]["absent_descriptions"] == list(scene.absent_descriptions)


def test_the_reader_of_coco_files_yields_the_samples_of_the_scenes(folder, world):
    reader = CocoReader(str(folder / "val/instances.json"), str(folder / "val/images"))
    found = list(reader.read(Quarantine()))
    wanted = [scene.sample() for scene in scenes(world, "val", 3)]
    assert [replace(s, key="", source="", extra={}) for s in found] == [
        replace(s, key="", source="") for s in wanted
    ]


def test_the_reader_of_llava_files_reads_all_conversations(folder):
    reader = LlavaReader(str(folder / "train/conversations.json"), str(folder / "train/images"))
    found = list(reader.read(Quarantine()))
    assert len(found) == 12
    assert {sample.extra["kind"] for sample in found} >= {"conversation"}


def test_the_manifest_tells_settings_and_counts(folder):
    manifest = read(folder, "manifest.json")
    assert manifest["spec"]["world"]["image_size"] == 64
    assert manifest["spec"]["seed"] == 0
    assert manifest["counts"]["train"]["images"] == 12
    assert sum(manifest["counts"]["train"]["conversations"].values()) == 12


def test_the_same_settings_give_the_same_bytes(folder, tmp_path, world, talk):
    again = write_scenes(tmp_path / "again", world, talk, splits=COUNTS)
    assert contents(again) == contents(folder)


def test_scenes_that_are_there_already_are_left_as_they_are(folder, world, talk):
    before = os.stat(folder / "manifest.json").st_mtime_ns
    told = []
    write_scenes(folder, world, talk, splits=COUNTS, on_progress=lambda *n: told.append(n))
    assert os.stat(folder / "manifest.json").st_mtime_ns == before
    assert told == []


def test_other_scenes_replace_the_old_ones(tmp_path, world, talk):
    first = contents(write_scenes(tmp_path / "s", world, talk, splits={"train": 2}))
    second = contents(write_scenes(tmp_path / "s", world, talk, splits={"train": 2}, seed=1))
    assert first.keys() == second.keys()
    assert first != second


def test_tells_how_far_it_is(tmp_path, world, talk):
    told = []
    splits = {"val": 1, "test": 2}
    write_scenes(tmp_path / "s", world, talk, splits=splits, on_progress=lambda *n: told.append(n))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_stop_on_the_way_leaves_nothing_behind(tmp_path, world, talk):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_scenes(tmp_path / "s", world, talk, splits={"train": 2}, on_progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ['{"format": "shards"}', "[]"])
def test_refuses_a_folder_of_something_else(tmp_path, world, talk, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(LocVLMError, match="something else than scenes"):
        write_scenes(tmp_path, world, talk, splits={"train": 1})
    assert (tmp_path / "manifest.json").read_text() == content
