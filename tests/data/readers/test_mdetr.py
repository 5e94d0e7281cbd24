import pytest
from hypothesis import HealthCheck, given, settings
from PIL import Image

from locvlm.data.readers import MdetrReader
from locvlm.errors import ConfigError, DataError
from locvlm.types import Box, Instance
from tests.data.readers.fuzz import JSON, broken, read_all, read_or_refuse, write

CATEGORIES = [{"supercategory": "object", "id": 1, "name": "object"}]


def image(id_, caption, name="a.png"):
    return {
        "file_name": name,
        "height": 30,
        "width": 40,
        "id": id_,
        "original_id": 581857,
        "caption": caption,
        "dataset_name": "refcoco",
    }


def annotation(image_id, bbox=(2, 3, 10, 5)):
    return {
        "id": image_id,
        "image_id": image_id,
        "category_id": 1,
        "bbox": list(bbox),
        "area": 50.0,
        "iscrowd": 0,
        "tokens_positive": [[0, 8]],
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("mdetr")
    for name in ("a.png", "b.png"):
        Image.new("RGB", (40, 30)).save(path / name)
    return path


@pytest.fixture
def read(folder):
    """Reads images and annotations; gives samples by key and the quarantine."""

    def run(images, annotations, **options):
        data = {"images": images, "annotations": annotations, "categories": CATEGORIES}
        return read_all(MdetrReader(write(folder / "x.json", data), str(folder), **options))

    return run


def test_expressions_about_one_image_file_make_one_sample(read):
    images = [image(0, "the left cat"), image(1, "dog", "b.png"), image(2, "right cat")]
    annotations = [annotation(0), annotation(1), annotation(2, (20, 3, 10, 5))]
    samples, quarantine = read(images, annotations)
    assert samples["a.png"].instances == (
        Instance("object", Box(2, 3, 12, 8), "left cat", unique=True),
        Instance("object", Box(20, 3, 30, 8), "right cat", unique=True),
    )
    assert samples["a.png"].extra == {"image": "a.png"}  # the audit tells leaks by it
    assert (list(samples), len(quarantine)) == (["a.png", "b.png"], 0)


def test_verbatim_expressions_keep_their_words(read):
    samples, _ = read([image(0, "the cat is asleep.")], [annotation(0)], verbatim=True)
    assert [one.description for one in samples["a.png"].instances] == ["the cat is asleep."]


def test_what_is_said_of_two_boxes_is_not_unique_and_what_is_said_twice_stands_once(read):
    images = [image(0, "cat"), image(1, "cat"), image(2, "grey cat"), image(3, "grey cat")]
    annotations = [annotation(0), annotation(1, (20, 3, 10, 5)), annotation(2), annotation(3)]
    samples, _ = read(images, annotations)
    found = [(one.description, one.unique) for one in samples["a.png"].instances]
    assert found == [("cat", False), ("cat", False), ("grey cat", True)]


@pytest.mark.parametrize(
    ("bad", "boxes", "reason"),
    [
        (image(9, "two cats"), [annotation(9), annotation(9)], "expression with 2 boxes"),
        (image(9, "no cat"), [], "expression with 0 boxes"),
        (image(9, "cat"), [annotation(9, (50, 3, 4, 4))], "box outside its image"),
        (image(9, "cat"), [annotation(9) | {"category_id": 5}], "unknown category id"),
        (image(9, "cat") | {"width": 41}, [annotation(9)], "image size differs"),
        (image(9, "cat", "none.png"), [annotation(9)], "image file is missing"),
        (image(9, None), [annotation(9)], "record without caption"),
        (7, [], "record without id"),
    ],
)
def test_a_bad_expression_is_set_aside_and_the_others_stay(read, bad, boxes, reason):
    samples, quarantine = read([bad, image(0, "left cat")], [*boxes, annotation(0)])
    assert [one.description for one in samples["a.png"].instances] == ["left cat"]
    assert list(quarantine.reasons) == [reason]


def test_a_limit_counts_images(read):
    samples, _ = read([image(0, "cat"), image(1, "dog", "b.png")], [annotation(0)], limit=1)
    assert list(samples) == ["a.png"]


def test_refuses_what_is_no_mdetr_file(folder):
    with pytest.raises(ConfigError, match="a file of expressions is needed"):
        MdetrReader(None, str(folder))
    with pytest.raises(DataError):
        read_all(MdetrReader(write(folder / "y.json", []), str(folder)))


def good(n):
    return image(10**6 + n, f"cat {n}"), annotation(10**6 + n, (n, 3, 10, 5))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(broken(list(good(9))))
def test_any_record_may_be_broken_and_the_good_ones_around_it_stay(read, folder, bad):
    bad = bad if isinstance(bad, list) and len(bad) == 2 else [bad, bad]
    images, annotations = zip(good(1), bad, good(2), strict=True)
    samples, _ = read(list(images), list(annotations))
    found = {one.description: one.box for one in samples["a.png"].instances}
    assert found["cat 1"] == Box(1, 3, 11, 8)
    assert found["cat 2"] == Box(2, 3, 12, 8)
    assert {path.name for path in folder.iterdir()} <= {"a.png", "b.png", "x.json", "y.json"}


@given(JSON, JSON)
def test_nothing_but_a_data_error_comes_of_any_file(folder, whole, part):
    for data in (whole, {"images": part, "annotations": part, "categories": part}):
        read_or_refuse(MdetrReader(write(folder / "y.json", data), str(folder)))


def test_sizes_may_be_text(read):
    samples, quarantine = read([image(0, "cat") | {"height": "30", "width": "40"}], [annotation(0)])
    assert (len(samples["a.png"].instances), len(quarantine)) == (1, 0)
    _, quarantine = read([image(0, "cat") | {"height": "30", "width": "4O"}], [annotation(0)])
    assert quarantine.records[0]["reason"].startswith("image size differs: '4O' x 30 in the")


@pytest.mark.parametrize("name", ["flickr", "mixed"])
def test_captions_of_phrase_grounding_are_no_expressions(read, name):
    caption = image(0, "Two people are talking.") | {"dataset_name": name}
    samples, quarantine = read([caption, image(1, "cat")], [annotation(0), annotation(1)])
    assert [one.description for one in samples["a.png"].instances] == ["cat"]
    assert quarantine.records[0]["reason"] == "caption of phrase grounding, no expression"
