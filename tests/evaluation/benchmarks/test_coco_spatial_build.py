import json

import pytest

from locvlm.build import main
from locvlm.errors import ConfigError, DataError
from locvlm.evaluation.benchmarks.coco_spatial_build import build
from locvlm.evaluation.benchmarks.coco_spatial_file import read_pairs
from locvlm.spatial import SIDES, opposite

NAMES = {18: "dog", 17: "cat", 44: "bottle", 47: "cup"}
CATEGORIES = [{"supercategory": "any", "id": key, "name": name} for key, name in NAMES.items()]
# Left to right: dog, then bottle and cup on the right; the dog is above both.
BOXES = {18: [0, 0, 20, 10], 44: [65, 60, 10, 30], 47: [80, 70, 20, 30]}


def annotation(category, bbox, number=1, image=7, **more):
    return {"id": number, "image_id": image, "category_id": category, "bbox": bbox, **more}


@pytest.fixture
def write(tmp_path):
    def write(annotations, images=None, categories=CATEGORIES):
        file = tmp_path / "instances.json"
        size = {"width": 100, "height": 100}
        images = images or [{"id": 7, "file_name": "7.jpg", **size}]
        file.write_text(
            json.dumps({"images": images, "annotations": annotations, "categories": categories})
        )
        return file

    return write


@pytest.fixture
def file(write):
    return write([annotation(key, box, n) for n, (key, box) in enumerate(BOXES.items())])


def test_equals_what_the_released_scripts_make_of_real_annotations(real_data):
    built = build(real_data / "coco/instances_val2014_100images.json", "released")
    expected = json.loads((real_data / "expected/coco_spatial_100images.json").read_text())
    assert json.loads(json.dumps(built.content)) == expected
    counts = json.loads((real_data / "expected/expected.json").read_text())["coco_spatial"]
    assert built.counts == {
        "images": counts["images"],
        "images with two categories seen once": counts[
            "images_with_2_or_more_categories_seen_once"
        ],
        "annotations": counts["annotations_kept"],
        "images with a pair": counts["images_with_a_pair"],
        "pairs": counts["left_right_pairs"],
    }


def test_the_papers_questions_about_real_annotations_hold_its_conditions(real_data):
    built = build(real_data / "coco/instances_val2014_100images.json", "paper")
    counted = [built.counts[f"questions, {axis}"] for axis in SIDES]
    assert sum(counted) == len(built.content["questions"]) > 10
    for question in built.content["questions"]:
        along = 0 if question["axis"] == "horizontal" else 1
        extent = question["width"], question["height"]
        sides = [one["side"] for one in question["objects"]]
        assert len({one["category"] for one in question["objects"]}) == 3
        assert sides[1] == sides[2] == opposite(sides[0])
        for one in question["objects"]:
            share = (one["bbox"][along] + one["bbox"][along + 2] / 2) / extent[along]
            first = SIDES[question["axis"]][0]
            assert share < 0.4 if one["side"] == first else share > 0.6


def test_the_released_form_sorts_objects_by_their_left_edge_and_pairs_them(write):
    boxes = {47: [80, 0, 10, 10], 18: [0, 0, 20, 10], 44: [20, 0, 30, 10]}
    file = write([annotation(key, box, n, area=1.5) for n, (key, box) in enumerate(boxes.items())])
    found = build(file, "released").content["data"]["7"]
    assert [one["category_id"] for one in found["annotations"]] == [18, 44, 47]
    assert found["good_pairs"] == [[0, 2], [1, 2]]  # the first two touch
    assert found["annotations"][0]["area"] == 1.5
    assert (found["file_name"], found["height"], found["width"]) == ("7.jpg", 100, 100)


def test_the_released_form_has_a_file_of_above_and_below_too(file):
    found = build(file, "released", "vertical").content["data"]["7"]
    assert [one["category_id"] for one in found["annotations"]] == [18, 44, 47]
    assert found["good_pairs"] == [[0, 1], [0, 2]]


def test_the_released_form_keeps_images_without_a_pair_and_counts_a_crowd_as_one(write):
    others = [annotation(18, [0, 0, 50, 50], image=8), annotation(17, [9, 9, 50, 50], 2, 8)]
    pair = [annotation(18, [0, 0, 9, 9], 3), annotation(17, [50, 0, 9, 9], 4, iscrowd=1)]
    size = {"width": 100, "height": 100}
    images = [{"id": key, "file_name": "a.jpg", **size} for key in (7, 8)]
    found = build(write([*others, *pair], images), "released").content["data"]
    assert "good_pairs" not in found["8"]
    assert found["7"]["good_pairs"] == [[0, 1]]


def test_the_papers_form_names_three_objects_the_first_alone_on_its_side(file):
    content = build(file, "paper", seed=3).content
    question = content["questions"][0]
    assert question["id"] == "7/horizontal"
    assert question["objects"][0] == {"category": "dog", "bbox": [0, 0, 20, 10], "side": "left"}
    assert {one["category"] for one in question["objects"][1:]} == {"bottle", "cup"}
    assert content["seed"] == 3
    assert content["source"]["file"] == "instances.json"
    assert [one["axis"] for one in content["questions"]] == ["horizontal", "vertical"]
    only = build(file, "paper", "vertical").content["questions"]
    assert [one["axis"] for one in only] == ["vertical"]


def test_the_papers_form_leaves_out_crowds_and_categories_seen_twice(write):
    boxes = list(BOXES.items())
    for extra in (
        annotation(18, [80, 0, 9, 9], 9),
        annotation(18, [0, 0, 0, 9], 9),  # without area, but there
    ):
        file = write([*(annotation(key, box, n) for n, (key, box) in enumerate(boxes)), extra])
        with pytest.raises(DataError, match="none of its 1 images"):
            build(file, "paper")
    crowd = [annotation(key, box, n, iscrowd=key == 18) for n, (key, box) in enumerate(boxes)]
    with pytest.raises(DataError, match="none of its 1 images"):
        build(write(crowd), "paper")


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_the_things_of_panoptic_annotations_are_objects_and_stuff_is_none(write, variant):
    boxes = {**BOXES, 1: [0, 90, 100, 10]}
    segments = [
        {"id": n, "category_id": key, "bbox": box, "area": 1, "iscrowd": 0}
        for n, (key, box) in enumerate(boxes.items())
    ]
    kinds = [{**one, "isthing": 1} for one in CATEGORIES] + [{"id": 1, "name": "sky", "isthing": 0}]
    panoptic = [{"image_id": 7, "file_name": "7.png", "segments_info": segments}]
    things = [{**one, "image_id": 7} for one in segments[:-1]]
    built = build(write(panoptic, categories=kinds), variant)
    assert built.counts.pop("segments") == 4
    same = build(write(things, categories=kinds), variant)
    assert built.counts == same.counts
    part = {"paper": "questions", "released": "data"}[variant]
    assert built.content[part] == same.content[part]


def test_segments_that_are_no_list_are_told(write):
    file = write([{"image_id": 7, "file_name": "7.png", "segments_info": 3}])
    with pytest.raises(DataError, match="segments_info of image 7 is no list"):
        build(file, "paper")


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_a_limit_draws_some_of_them_with_a_seed(real_data, variant):
    def built(limit, seed=0):
        file = real_data / "coco/instances_val2014_100images.json"
        content = build(file, variant, "horizontal", limit, seed).content
        return (
            [one["id"] for one in content["questions"]]
            if "questions" in content
            else content["data"]
        )

    every, some = built(0), built(9)
    assert len(some) == 9
    assert [key for key in every if key in some] == list(some)
    assert list(built(9)) == list(some) != list(built(9, seed=1))
    assert len(built(1000)) == (len(every) if variant == "paper" else 43)


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_what_is_built_can_be_read(file, tmp_path, variant):
    output = tmp_path / "built.json"
    output.write_text(json.dumps(build(file, variant).content))
    found = read_pairs(output)
    assert found.variant == variant
    assert len(found.pairs) == (2 if variant == "paper" else 3)


@pytest.mark.parametrize(
    "bad",
    [
        {"bbox": [1, 2, 3]},
        {"bbox": [0, 0, float("nan"), 2]},
        {"bbox": None},
        {"category_id": [18]},
        {"category_id": 99},
        {"bbox": ["1", 2, 3, 4]},
        {"area": float("inf"), "bbox": [1, 1, 2, 2]},
    ],
)
@pytest.mark.parametrize("variant", ["paper", "released"])
def test_annotations_that_cannot_be_used_are_counted_and_named(write, variant, bad, caplog):
    rows = [annotation(key, box, n) for n, (key, box) in enumerate(BOXES.items())]
    built = build(write([*rows, annotation(17, [1, 1, 2, 2], 99) | bad]), variant)
    assert json.dumps(built.content, allow_nan=False)
    if "area" not in bad or variant == "released":
        aside = [number for what, number in built.counts.items() if what.startswith("set aside")]
        assert aside == [1]
        assert "annotation 99" in caplog.text


def test_images_without_a_size_are_counted(write):
    rows = [annotation(key, box, n) for n, (key, box) in enumerate(BOXES.items())]
    good = {"id": 7, "file_name": "7.jpg", "width": 100, "height": 100}
    bad = [{"id": 8, "file_name": "8.jpg"}, {**good, "id": 9, "width": "9"}]
    counts = build(write(rows, [good, *bad]), "paper").counts
    assert counts["set aside: image record without file_name"] == 2


def test_refuses_what_it_does_not_know(file):
    for given_variant, axis in (("papers", None), ("paper", "diagonal")):
        with pytest.raises(ConfigError, match="there is no variant"):
            build(file, given_variant, axis)


def test_refuses_a_file_of_another_kind(tmp_path):
    file = tmp_path / "other.json"
    file.write_text("[]")
    with pytest.raises(DataError, match="not a COCO instances file"):
        build(file, "paper")


def test_the_command_takes_any_path_and_says_how_many(file, tmp_path, capsys):
    odd = file.rename(tmp_path / "instances, (1)='a'.json")
    output = tmp_path / "out" / "b [2].json"
    given = ["variant=paper", f"instances={odd}", f"output={output}", "limit=5", "axis=vertical"]
    main(["benchmark=coco_spatial", *given])
    assert [one["axis"] for one in json.loads(output.read_text())["questions"]] == ["vertical"]
    assert "questions, vertical" in capsys.readouterr().out
