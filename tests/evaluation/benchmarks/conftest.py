"""A small RefCOCO: two images, of which the second is missing, and three referred objects."""

import json
import pickle

import pytest
from PIL import Image

from locvlm.data.readers import MdetrReader, RefCocoReader

SAID = {  # by annotation of image 1
    7: ["left cat", "The cat is asleep."],
    8: ["right cat", "left cat"],
}
BOXES = {7: [2, 3, 10, 5], 8: [20, 3, 10, 5], 9: [30, 20, 4, 4]}


@pytest.fixture
def refcoco(tmp_path):
    """Makes the reader of RefCOCO's own files, with options."""
    (tmp_path / "train2014").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "train2014" / "a.png")
    refs = [
        {"image_id": 1, "ann_id": id_, "split": "testB", "sentences": [{"sent": s} for s in said]}
        for id_, said in SAID.items()
    ]
    refs.append({"image_id": 2, "ann_id": 10, "split": "testB", "sentences": [{"sent": "gone"}]})
    (tmp_path / "refs(unc).p").write_bytes(pickle.dumps(refs, 2))
    annotations = [
        {"id": id_, "image_id": 1, "category_id": 17, "bbox": box} for id_, box in BOXES.items()
    ]
    tables = {
        "images": [
            {"id": id_, "file_name": name, "width": 40, "height": 30}
            for id_, name in ((1, "a.png"), (2, "b.png"))
        ],
        "annotations": annotations,
        "categories": [{"id": 17, "name": "cat"}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(tables))

    def make(**options):
        files = (tmp_path / "refs(unc).p", tmp_path / "instances.json", tmp_path / "train2014")
        return RefCocoReader(*map(str, files), **({"split": "testB"} | options))

    return make


@pytest.fixture
def mdetr(tmp_path):
    """Makes the reader of the same expressions in MDETR's form, in another order."""
    (tmp_path / "images").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "images" / "a.png")
    order = [(7, "left cat"), (8, "right cat"), (7, "The cat is asleep."), (8, "left cat")]
    images = [
        {"id": n, "file_name": "a.png", "width": 40, "height": 30, "caption": text}
        for n, (_, text) in enumerate(order)
    ]
    annotations = [
        {"id": n, "image_id": n, "category_id": 1, "bbox": BOXES[of]}
        for n, (of, _) in enumerate(order)
    ]
    tables = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "object"}],
    }
    file = tmp_path / "finetune_refcoco_testB.json"
    file.write_text(json.dumps(tables))
    return lambda **options: MdetrReader(str(file), str(tmp_path / "images"), **options)
