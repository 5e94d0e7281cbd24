import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from PIL import Image

from locvlm.data.readers import RefCocoReader
from locvlm.errors import ConfigError, DataError
from locvlm.objectives import nameable_instances
from locvlm.types import Box, Instance
from tests.data.readers.fuzz import JSON, broken, read_all, read_or_refuse, write

CATEGORIES = [{"id": 1, "name": "person"}, {"id": 17, "name": "cat"}, {"id": 24, "name": "zebra"}]


def image(id_):
    return {"id": id_, "file_name": "a.png", "width": 40, "height": 30}


def annotation(id_, image_id=1, category_id=17, bbox=(2, 3, 10, 5), **more):
    return {
        "id": id_,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": list(bbox),
        "iscrowd": 0,
        **more,
    }


def ref(ann_id, *sents, image_id=1, split="train", **more):
    sentences = [{"sent": sent, "raw": sent.title(), "tokens": sent.split()} for sent in sents]
    return {
        "ref_id": ann_id,
        "ann_id": ann_id,
        "image_id": image_id,
        "split": split,
        "category_id": 17,
        "file_name": "COCO_train2014_000000000001_0.jpg",
        "sentences": sentences,
        **more,
    }


ONE_IMAGE = (image(1),)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("refcoco")
    Image.new("RGB", (40, 30)).save(path / "a.png")
    return path


@pytest.fixture
def reader(folder):
    """Writes both files and gives their reader."""

    def make(refs, annotations, images=ONE_IMAGE, **options):
        (folder / "refs.p").write_bytes(pickle.dumps(refs, 2))
        tables = {"images": images, "annotations": annotations, "categories": CATEGORIES}
        file = write(folder / "instances.json", tables)
        options = {"split": "train"} | options
        return RefCocoReader(str(folder / "refs.p"), file, str(folder), **options)

    return make


def test_each_expression_is_an_instance_with_a_unique_description(reader):
    refs = [ref(7, "left cat", "the cat is asleep.")]
    samples, quarantine = read_all(reader(refs, [annotation(7), annotation(8, bbox=(1, 1, 2, 2))]))
    box = Box(2, 3, 12, 8)
    assert samples["1"].instances == (
        Instance("cat", box, "left cat", unique=True),
        Instance("cat", box, "cat that is asleep", unique=True),
        Instance("cat", Box(1, 1, 3, 3)),
    )
    assert samples["1"].extra == {"image": "a.png"}  # the audit tells leaks by it
    assert not len(quarantine)


def test_verbatim_expressions_keep_their_words(reader):
    refs = [ref(7, "the cat is asleep.")]
    samples, _ = read_all(reader(refs, [annotation(7)], verbatim=True))
    assert [one.description for one in samples["1"].instances] == ["the cat is asleep."]


def test_a_crowd_stays_one(reader):
    refs, annotations = [ref(7, "left cat")], [annotation(7), annotation(8, iscrowd=1)]
    samples, _ = read_all(reader(refs, annotations))
    assert [one.crowd for one in samples["1"].instances] == [False, True]


def test_a_size_that_differs_from_the_file_is_set_aside(reader):
    wide = image(1) | {"width": 80}
    samples, quarantine = read_all(reader([ref(7, "left cat")], [annotation(7)], [wide]))
    assert not samples
    assert list(quarantine.reasons) == ["image size differs"]


def test_objects_are_asked_for_by_expression_though_their_category_occurs_twice(reader):
    refs = [ref(7, "left cat"), ref(8, "right cat")]
    samples, _ = read_all(reader(refs, [annotation(7), annotation(8), annotation(9)]))
    asked = nameable_instances(samples["1"].instances)
    assert [one.description for one in asked] == ["left cat", "right cat"]


def test_an_expression_that_is_said_of_two_objects_is_not_unique(reader):
    refs = [ref(7, "cat", "left cat"), ref(8, "Cat")]
    samples, _ = read_all(reader(refs, [annotation(7), annotation(8)]))
    unique = {one.description: one.unique for one in samples["1"].instances}
    assert unique == {"cat": False, "left cat": True, "Cat": False}


def test_the_first_sentence_may_stand_for_all(reader):
    refs = [ref(7, "left cat", "grey cat")]
    samples, _ = read_all(reader(refs, [annotation(7)], sentences="first"))
    assert [one.description for one in samples["1"].instances] == ["left cat"]


def test_only_images_of_the_split_are_read(reader):
    refs = [ref(7, "left cat"), ref(8, "zebra", image_id=2, split="testA")]
    annotations, images = [annotation(7), annotation(8, 2, 24)], [image(1), image(2)]
    assert list(read_all(reader(refs, annotations, images))[0]) == ["1"]
    samples, _ = read_all(reader(refs, annotations, images, split="testA"))
    assert list(samples) == ["2"]
    assert samples["2"].instances[0].category == "zebra"


def test_absent_are_expressions_that_name_a_category_which_the_image_lacks(reader):
    refs = [ref(7, "left cat"), ref(8, "zebra on left", "left one", image_id=2)]
    annotations, images = [annotation(7), annotation(8, 2, 24)], [image(1), image(2)]
    samples, _ = read_all(reader(refs, annotations, images))
    assert sorted(samples["1"].absent) == ["person", "zebra on left"]
    assert sorted(samples["2"].absent) == ["left cat", "person"]
    assert read_all(reader(refs, annotations, images))[0] == samples
    assert read_all(reader(refs, annotations, images, n_negatives=0))[0]["1"].absent == ()


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (ref(99, "left cat"), "expression about no annotation"),
        (ref(7, "left cat", image_id=5), "expressions about no image"),
        (ref(7, *["left cat"] * 101), "reference with 101 sentences"),
        (ref(7, ""), "record without sent"),
        (ref([7], "left cat"), "record without ann_id"),
        (ref(7, "left cat", split=None), "record without split"),
        ("text", "record without split"),
    ],
)
def test_a_bad_reference_is_set_aside_and_the_others_stay(reader, bad, reason):
    samples, quarantine = read_all(reader([bad, ref(8, "grey cat")], [annotation(8)]))
    assert [one.description for one in samples["1"].instances] == ["grey cat"]
    assert list(quarantine.reasons) == [reason]


def test_a_limit_stops_without_judging_the_rest(reader):
    refs = [ref(7, "left cat"), ref(8, "zebra", image_id=2)]
    annotations, images = [annotation(7), annotation(8, 2, 24)], [image(1), image(2)]
    samples, quarantine = read_all(reader(refs, annotations, images, limit=1))
    assert (list(samples), len(quarantine)) == (["1"], 0)


def test_refuses_what_is_missing_or_unknown(folder):
    for options, reason in [
        ((None, "i", "f"), "a file of expressions is needed"),
        (("r", None, "f"), "a file of boxes is needed"),
        (("r", "i", "f"), "a split is needed"),
        (("r", "i", "f", "train", "some"), "no sentences called 'some'"),
    ]:
        with pytest.raises(ConfigError, match=reason):
            RefCocoReader(*options)


def test_an_unknown_split_is_answered_with_those_that_are_there(reader):
    with pytest.raises(DataError, match="no expressions in the split 'testC'") as error:
        read_all(reader([ref(7, "cat"), ref(8, "cat", split="val")], [], split="testC"))
    assert error.value.fix == "there are train, val"


def test_a_pickle_that_is_no_list_is_refused(reader):
    with pytest.raises(DataError, match="not RefCOCO's list of references"):
        read_all(reader({"a": 1}, []))


def good(n):
    return ref(10**6 + n, f"cat {n}", image_id=n), annotation(10**6 + n, n), image(n)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(broken(list(good(10**7 + 3))))
def test_any_record_may_be_broken_and_the_good_ones_around_it_stay(reader, folder, bad):
    bad = bad if isinstance(bad, list) and len(bad) == 3 else [bad, bad, bad]
    first, last = good(10**7 + 1), good(10**7 + 2)
    refs, annotations, images = map(list, zip(first, bad, last, strict=True))
    samples, _ = read_all(reader(refs, annotations, images))
    for _, _, record in (first, last):
        [instance] = samples[str(record["id"])].instances
        assert (instance.box, instance.unique) == (Box(2, 3, 12, 8), True)
    assert {path.name for path in folder.iterdir()} == {"a.png", "refs.p", "instances.json"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(JSON, JSON)
def test_nothing_but_a_data_error_comes_of_any_file(reader, refs, tables):
    read_or_refuse(reader(refs, tables, tables))
    made = reader([ref(7, "cat")], [], [])
    write(Path(made.sources[1]), tables)
    read_or_refuse(made)


def test_reads_real_expressions(real_data, reader, tmp_path):
    """The real extract holds expressions and boxes, but not the pickle they come from."""
    records = json.loads(
        (real_data / "refcoco" / "testA_refcoco_unc_dets_2images.json").read_text()
    )
    boxes = {tuple(record["gt_box"]): n for n, record in enumerate(records)}
    refs = [ref(boxes[tuple(r["gt_box"])], r["sent"], split="testA") for r in records]
    annotations = [annotation(n, category_id=1, bbox=box) for box, n in boxes.items()]
    big = {"id": 1, "file_name": "big.png"}
    Image.new("RGB", (640, 640)).save(tmp_path / "big.png")
    made = replace(reader(refs, annotations, [big], split="testA"), images=str(tmp_path))
    samples, quarantine = read_all(made)
    said = {one.description for one in samples["1"].instances}
    assert len(said) == len({record["sent"] for record in records})
    assert not len(quarantine)
