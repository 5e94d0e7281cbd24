import io
import json
import tracemalloc
from itertools import permutations

import pytest
from PIL import Image

from locvlm import json_stream
from locvlm.data import Quarantine
from locvlm.data.readers import CocoReader
from locvlm.errors import DataError
from locvlm.types import Box, Instance

CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 17, "name": "dog"}, {"id": 90, "name": "cow"}]


def annotation(image_id=1, category_id=3, bbox=(2, 3, 10, 5), **more):
    return {"id": 5, "image_id": image_id, "category_id": category_id, "bbox": list(bbox), **more}


@pytest.fixture
def read(tmp_path):
    """Reads annotations about one 40 x 30 image; gives samples and quarantined records."""
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.png")

    def run(annotations, images=None, **options):
        images = [{"id": 1, "file_name": "a.png", "width": 40, "height": 30}] + (images or [])
        file = tmp_path / "instances.json"
        data = {"images": images, "annotations": annotations, "categories": CATEGORIES}
        file.write_text(json.dumps(data))
        quarantine = Quarantine()
        reader = CocoReader(str(file), str(tmp_path), **options)
        return list(reader.read(quarantine)), quarantine

    return run


def test_a_box_becomes_corners_and_sparse_ids_become_names(read):
    [sample], quarantine = read([annotation(category_id=17)])
    assert sample.instances == (Instance("dog", Box(2, 3, 12, 8)),)
    assert (sample.key, sample.size, len(quarantine)) == ("1", (40, 30), 0)


def test_crowds_and_descriptions_are_kept(read):
    [sample], _ = read([annotation(iscrowd=1, description="cat that sleeps")])
    assert sample.instances[0].crowd
    assert sample.instances[0].description == "cat that sleeps"


def test_absent_categories_are_drawn_from_the_others_and_repeat(read):
    [sample], _ = read([annotation()])
    assert sorted(sample.absent) == ["cow", "dog"]
    assert read([annotation()])[0][0].absent == sample.absent


def test_absent_categories_of_the_file_come_first(tmp_path, read):
    [sample], _ = read([annotation()], n_negatives=1)
    assert len(sample.absent) == 1


def test_a_box_that_leaves_its_image_is_clipped(read):
    [sample], quarantine = read([annotation(bbox=(30, 20, 50, 50))])
    assert sample.instances[0].box == Box(30, 20, 40, 30)
    assert not len(quarantine)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"bbox": (50, 3, 10, 5)}, "box outside its image"),
        ({"bbox": (2, 3, 0, 5)}, "box without area"),
        ({"bbox": (2, 3, float("nan"), 5)}, "box without four numbers"),
        ({"bbox": (2, 3, float("inf"), 5)}, "box without four numbers"),
        ({"bbox": (2, 3, 10)}, "box without four numbers"),
        ({"bbox": ("x", 3, 10, 5)}, "box without four numbers"),
        ({"category_id": 4}, "unknown category id"),
    ],
)
def test_a_bad_annotation_is_set_aside_and_the_others_stay(read, wrong, reason):
    [sample], quarantine = read([annotation(**wrong), annotation(category_id=17)])
    assert [instance.category for instance in sample.instances] == ["dog"]
    assert len(quarantine) == 1
    assert list(quarantine.reasons) == [reason]


def test_a_missing_image_is_set_aside_and_the_work_goes_on(read):
    missing = {"id": 2, "file_name": "none.png"}
    samples, quarantine = read([annotation(), annotation(image_id=2)], [missing])
    assert [sample.key for sample in samples] == ["1"]
    assert "image file is missing" in quarantine.reasons


def test_an_image_without_annotations_shows_no_category_at_all(read):
    samples, quarantine = read([annotation()], [{"id": 2, "file_name": "a.png"}])
    assert samples[1].instances == ()
    assert sorted(samples[1].absent) == ["cat", "cow", "dog"]
    assert not len(quarantine)


def test_a_size_that_differs_from_the_file_is_set_aside(tmp_path, read):
    Image.new("RGB", (20, 30)).save(tmp_path / "b.png")
    other = {"id": 2, "file_name": "b.png", "width": 40, "height": 30}
    _, quarantine = read([annotation(), annotation(image_id=2)], [other])
    assert len(quarantine) == 1


def test_annotations_may_stand_anywhere_and_tables_in_any_order(tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    images = [{"id": 1, "file_name": "a.png"}, {"id": "1", "file_name": "a.png"}]
    annotations = [
        annotation(1, 3, (1, 1, 5, 5)),
        annotation("1", 17, (2, 2, 5, 5)),
        annotation(1, 90, (3, 3, 5, 5)),
    ]
    tables = {"annotations": annotations, "categories": CATEGORIES, "images": images}
    read = []
    for order in permutations(tables):
        file = tmp_path / "instances.json"
        file.write_text(json.dumps({name: tables[name] for name in order}))
        samples = list(CocoReader(str(file), str(tmp_path)).read(Quarantine()))
        read.append([[one.category for one in sample.instances] for sample in samples])
    assert read == [[["cat", "cow"], ["dog"]]] * 6


@pytest.mark.parametrize(
    ("negatives", "absent"), [("popular", ["cat", "dog"]), ("adversarial", ["dog", "cat"])]
)
def test_negatives_by_frequency_count_images_not_annotations(read, negatives, absent):
    images = [{"id": n, "file_name": "a.png"} for n in range(2, 6)]
    annotations = [annotation(1, 90)]
    annotations += [annotation(2, 90), annotation(2, 17), annotation(2, 17), annotation(2, 17)]
    annotations += [annotation(3, 3), annotation(4, 3), annotation(5, 3)]
    samples, _ = read(annotations, images, negatives=negatives)
    assert samples[0].instances == (Instance("cow", Box(2, 3, 12, 8)),)
    assert list(samples[0].absent) == absent


def test_only_images_with_a_single_instance_are_kept_on_request(read):
    images = [{"id": n, "file_name": "a.png"} for n in range(2, 5)]
    annotations = [annotation(1, 3), annotation(1, 17), annotation(1, 17)]
    annotations += [annotation(2, 3), annotation(2, 3), annotation(3, 3, iscrowd=1)]
    samples, quarantine = read(annotations, images, single_instance_only=True)
    assert [sample.key for sample in samples] == ["1"]
    assert [one.category for one in samples[0].instances] == ["cat", "dog", "dog"]
    assert quarantine.left_out == {"image without a single instance": 3}
    assert not len(quarantine)


def test_small_instances_are_left_out_but_never_make_another_one_single(read):
    large, small = (2, 3, 10, 5), (2, 3, 10, 4)
    annotations = [annotation(1, 3, small), annotation(1, 17, small), annotation(1, 17, large)]
    [sample], quarantine = read(annotations, min_area=50)
    assert [one.category for one in sample.instances] == ["dog", "dog"]
    assert sample.absent == ("cow",)
    assert quarantine.left_out == {"instance smaller than min_area": 1}


def test_polygons_take_no_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "_WINDOW", 10_000)
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    polygons = [[0.5] * 500]
    data = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [annotation(segmentation=polygons) for _ in range(2_000)],
        "categories": CATEGORIES,
    }
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(data))
    reader = CocoReader(str(file), str(tmp_path))
    tracemalloc.start()
    try:
        samples = list(reader.read(Quarantine()))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(samples[0].instances) == 2_000
    assert peak < file.stat().st_size / 2


@pytest.mark.parametrize("missing", ["images", "annotations", "categories"])
def test_a_missing_table_is_named_before_anything_is_read(tmp_path, missing):
    data = {"images": [], "annotations": [], "categories": CATEGORIES}
    del data[missing]
    file = tmp_path / "x.json"
    file.write_text(json.dumps(data))
    with pytest.raises(DataError, match=f"not a COCO instances file.*no '{missing}'"):
        next(CocoReader(str(file), str(tmp_path)).read(Quarantine()))


def test_a_file_that_is_cut_short_gives_no_sample_at_all(tmp_path, read):
    read([annotation()])
    file = tmp_path / "instances.json"
    file.write_text(file.read_text()[:-1])
    with pytest.raises(DataError, match="the file ends early"):
        next(CocoReader(str(file), str(tmp_path)).read(Quarantine()))


def test_a_file_that_is_not_there_is_not_called_damaged(tmp_path):
    with pytest.raises(DataError, match="^cannot read this file: No such file"):
        next(CocoReader(str(tmp_path / "no.json"), str(tmp_path)).read(Quarantine()))


def test_refuses_a_file_that_is_no_coco_json(tmp_path):
    file = tmp_path / "x.json"
    file.write_text(json.dumps([1, 2]))
    with pytest.raises(DataError, match="not a COCO instances file"):
        list(CocoReader(str(file), str(tmp_path)).read(Quarantine()))


def test_reads_the_real_extract(real_data):
    folder = real_data / "coco"
    reader = CocoReader(str(folder / "instances_val2014_100images.json"), str(folder / "images"))
    quarantine = Quarantine()
    samples = list(reader.read(quarantine))
    assert len(samples) == 5
    assert len(quarantine) == 95
    for sample in samples:
        assert Image.open(io.BytesIO(sample.image)).size == sample.size
        assert not {instance.category for instance in sample.instances} & set(sample.absent)
