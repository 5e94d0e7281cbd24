import json

import pytest

from locvlm.errors import DataError
from locvlm.evaluation.benchmarks.coco_spatial_file import read_pairs
from locvlm.types import Box


def thing(category, bbox):
    return {"category_id": category, "bbox": bbox, "iscrowd": 0}


def released(*things, pairs=((0, 1),), **more):
    categories = [{"id": n, "name": name} for n, name in enumerate(["dog", "cat", "cup"])]
    image = {"file_name": "7.jpg", "height": 100, "width": 100, "annotations": list(things)}
    return {"categories": categories, "data": {"7": {**image, "good_pairs": pairs, **more}}}


DOG, CAT, CUP = (thing(n, [40 * n, 30 * n, 10, 10]) for n in range(3))
PAPER = {
    "format": "coco_spatial paper",
    "version": 1,
    "questions": [
        {
            "id": "7/vertical",
            "file_name": "7.jpg",
            "width": 100,
            "height": 100,
            "axis": "vertical",
            "objects": [
                {"category": "dog", "bbox": [0, 0, 10, 10], "side": "above"},
                {"category": "cat", "bbox": [0, 80, 10, 10], "side": "below"},
                {"category": "cup", "bbox": [40, 80, 10, 10], "side": "below"},
            ],
        }
    ],
}


@pytest.fixture
def read(tmp_path):
    def read(content, seed=0):
        file = tmp_path / "spatial.json"
        file.write_text(json.dumps(content))
        return read_pairs(file, seed)

    return read


def told(fact):
    return fact.say("{category} {side} of {other}")


def test_the_papers_form_asks_for_the_first_object_as_seen_from_the_third(read):
    (pair,) = read(PAPER).pairs
    assert told(pair.fact) == "dog above of cup"
    assert [told(fact) for fact in pair.examples] == ["cat below of dog", "dog above of cat"]
    assert (pair.id, pair.image, pair.width) == ("7/vertical", "7.jpg", 100)


def test_the_released_form_asks_for_the_right_object_as_seen_from_the_left(read):
    found = read(released(DOG, CAT))
    (pair,) = found.pairs
    assert told(pair.fact) == "cat right of dog"
    assert pair.fact.instance.box == Box(40, 30, 50, 40)
    assert pair.examples == ()  # two objects: nothing is left to be worked before
    assert (found.variant, pair.id, found.without) == ("released", "7/0-1", 0)


@pytest.mark.parametrize("seed", range(6))
def test_worked_examples_of_the_released_form_are_about_a_third_object(read, seed):
    pairs = read(released(DOG, CAT, CUP, pairs=[[0, 1], [0, 2], [1, 2]]), seed).pairs
    for pair in pairs:
        asked = {one.category for one in pair.fact.instances}
        first, second = pair.examples
        assert first.instances == second.instances[::-1]
        assert {first.side, second.side} == {"left", "right"}
        assert len(asked & {one.category for one in first.instances}) == 1


def test_the_order_of_the_pairs_tells_the_axis_of_a_released_file(read):
    right_above, left_below = thing(0, [50, 0, 10, 10]), thing(1, [0, 50, 10, 10])
    (pair,) = read(released(right_above, left_below)).pairs
    assert told(pair.fact) == "cat below of dog"


def test_images_without_a_pair_are_counted(read):
    content = released(DOG, CAT)
    content["data"]["8"] = {"file_name": "8.jpg", "width": 9, "height": 9, "annotations": []}
    found = read(content)
    assert len(found.pairs) == 1
    assert found.without == 1


def test_reads_all_pairs_of_the_released_script(real_data):
    found = read_pairs(real_data / "expected" / "coco_spatial_100images.json")
    assert len(found.pairs) == 116
    assert found.without == 30
    assert {pair.fact.side for pair in found.pairs} == {"right"}


@pytest.mark.parametrize(
    "content", [[], 7, {}, {"questions": []}, {"data": [], "categories": []}, {"images": []}]
)
def test_a_file_of_another_kind_is_refused(read, content):
    with pytest.raises(DataError, match="no file of COCO-Spatial"):
        read(content)


def test_another_version_is_refused(read):
    with pytest.raises(DataError, match="version 2"):
        read({**PAPER, "version": 2})


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (released(DOG, CAT, pairs=[[0, 5]]), "data, '7'"),
        (released(DOG, CAT, pairs=[[1, 0]]), "data, '7'"),
        (released(DOG, CAT, pairs=7), "data, '7'"),
        (released(DOG, thing(9, [1, 2, 3, 4])), "data, '7'"),
        (released(DOG, thing(1, [1, 2, 3])), "data, '7'"),
        (released(DOG, CAT, width="wide"), "data, '7'"),
        (released(DOG, CAT, width=10**400), "data, '7'"),
        ({"categories": [{"id": 1}], "data": {}}, "categories"),
        ({"categories": [], "data": {"7": 5}}, "data, '7'"),
        ({**PAPER, "questions": [7]}, "question 1"),
        ({**PAPER, "questions": [{**PAPER["questions"][0], "axis": "diagonal"}]}, "question 1"),
        ({**PAPER, "questions": [{**PAPER["questions"][0], "objects": []}]}, "question 1"),
        (
            {
                **PAPER,
                "questions": [
                    {
                        **PAPER["questions"][0],
                        "objects": PAPER["questions"][0]["objects"][::-1],
                    }
                ],
            },
            "question 1",
        ),
    ],
)
def test_a_damaged_record_is_named(read, content, where):
    with pytest.raises(DataError, match="cannot be used") as error:
        read(content)
    assert where in error.value.where
