import json

import pytest
from hypothesis import HealthCheck, given, settings
from PIL import Image

from locvlm.data import Quarantine
from locvlm.data.readers import PanopticReader
from locvlm.data.readers.panoptic import instances_of
from locvlm.errors import ConfigError, DataError
from locvlm.types import Box, Instance
from tests.data.readers.fuzz import JSON, broken, read_all, read_or_refuse, write

CATEGORIES = [
    {"id": 17, "name": "cat", "isthing": 1},
    {"id": 18, "name": "dog", "isthing": 1},
    {"id": 119, "name": "sky", "isthing": 0},
]


def segment(category_id=17, bbox=(2, 3, 10, 5), **more):
    return {"id": 5, "category_id": category_id, "bbox": list(bbox), "iscrowd": 0, **more}


def image(id_, name="a.png"):
    return {"id": id_, "file_name": name, "width": 40, "height": 30}


def annotation(image_id, *segments):
    return {"image_id": image_id, "file_name": "a.png", "segments_info": list(segments)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("panoptic")
    Image.new("RGB", (40, 30)).save(path / "a.png")
    return path


@pytest.fixture
def read(folder):
    """Reads annotations and images; gives samples by key and the quarantine."""

    def run(annotations, images, **options):
        data = {"annotations": annotations, "images": images, "categories": CATEGORIES}
        file = write(folder / "panoptic.json", data)
        return read_all(PanopticReader(file, str(folder), **options))

    return run


def test_segments_become_instances_and_the_other_categories_are_absent(read):
    segments = [segment(), segment(119, (0, 0, 40, 9), iscrowd=1)]
    samples, quarantine = read([annotation(1, *segments)], [image(1)])
    assert samples["1"].instances == (
        Instance("cat", Box(2, 3, 12, 8)),
        Instance("sky", Box(0, 0, 40, 9), crowd=True),
    )
    assert samples["1"].extra == {"image": "a.png"}  # the audit tells leaks by it
    assert (samples["1"].size, samples["1"].absent, len(quarantine)) == ((40, 30), ("dog",), 0)


def test_things_only_leaves_stuff_out_but_counts_it_as_shown(read):
    segments = [segment(), segment(119, (0, 0, 40, 9))]
    samples, _ = read([annotation(1, *segments)], [image(1)], things_only=True)
    assert [one.category for one in samples["1"].instances] == ["cat"]
    assert samples["1"].absent == ("dog",)


def test_a_limit_stops_without_judging_the_rest(read):
    annotations = [annotation(1, segment()), annotation(2, segment())]
    samples, quarantine = read(annotations, [image(1), image(2)], limit=1)
    assert (list(samples), len(quarantine)) == (["1"], 0)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (segment(99), "unknown category id"),
        (segment([1]), "unknown category id"),
        (7, "unknown category id"),
        (segment(bbox=(2, 3, 0, 5)), "box without area"),
    ],
)
def test_a_bad_segment_is_set_aside_and_the_others_stay(read, wrong, reason):
    samples, quarantine = read([annotation(1, wrong, segment(18))], [image(1)])
    assert [one.category for one in samples["1"].instances] == ["dog"]
    assert list(quarantine.reasons) == [reason]


def test_annotations_and_images_without_each_other_are_set_aside(read):
    annotations = [annotation(1), annotation(1), annotation(3), {"image_id": 2}]
    samples, quarantine = read(annotations, [image(1), image(2), image(4)])
    assert list(samples) == ["1"]
    assert quarantine.reasons == {
        "annotation of no image": 2,
        "record without a list of segments_info": 1,
        "image without annotation": 1,
    }


def test_a_size_that_differs_from_the_file_is_set_aside(read):
    samples, quarantine = read([annotation(1)], [image(1) | {"width": 80}])
    assert not samples
    assert list(quarantine.reasons) == ["image size differs"]


def test_refuses_what_is_no_panoptic_file(folder):
    with pytest.raises(ConfigError, match="a file of annotations is needed"):
        PanopticReader(None, str(folder))
    for data in ([], {"images": []}):
        file = write(folder / "none.json", data)
        with pytest.raises(DataError):
            read_all(PanopticReader(file, str(folder)))


GOOD = [(annotation(10**6 + n, segment()), image(10**6 + n)) for n in (1, 2)]
BAD = (annotation(10**6 + 3, segment()), image(10**6 + 3))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(broken(list(BAD)))
def test_any_record_may_be_broken_and_the_good_ones_around_it_stay(read, folder, bad):
    bad = bad if isinstance(bad, list) and len(bad) == 2 else [bad, bad]
    annotations, images = zip(GOOD[0], bad, GOOD[1], strict=True)
    samples, _ = read(list(annotations), list(images))
    for record, _ in GOOD:
        instances = samples[str(record["image_id"])].instances
        assert instances == (Instance("cat", Box(2, 3, 12, 8)),)
    assert {path.name for path in folder.iterdir()} <= {"a.png", "panoptic.json", "none.json"}


@given(JSON, JSON)
def test_nothing_but_a_data_error_comes_of_any_file(folder, whole, part):
    for data in (whole, {"images": part, "annotations": part, "categories": part}):
        file = write(folder / "none.json", data)
        read_or_refuse(PanopticReader(file, str(folder)))


def test_reads_the_segments_of_the_real_extract(real_data):
    segments = json.loads((real_data / "coco_39769/coco_panoptic_annotations.txt").read_text())
    names = {17: "cat", 63: "couch", 75: "remote", 93: "blanket"}
    quarantine = Quarantine()
    found = list(instances_of(segments, names, (640, 480), "real", quarantine))
    assert [one.category for one in found] == [names[one["category_id"]] for one in segments]
    assert found[0].box == Box(18, 54, 319, 469)
    assert not len(quarantine)
