import json
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from locvlm.errors import ConfigError, DataError
from locvlm.evaluation.benchmarks.hal import build_hal, read_shown
from locvlm.evaluation.benchmarks.pope import Pope
from tests.test_configs import CONF

QUESTION = "Is there {article} {category} in the {about}?"
CLASSES = ["cat", "owl", "sofa, couch, lounge", "car", "tree", "lamp"]
SHOWN = {"a/1.jpg": [0, 1, 1], "a/2.jpg": [1, 2], "b/1.jpg": [0, 4]}


def categories():
    return [{"id": n, "name": name} for n, name in enumerate(CLASSES)]


def images(shown):
    return [{"id": n, "file_name": name} for n, name in enumerate(shown)]


@pytest.fixture
def instances(tmp_path):
    return write(tmp_path, SHOWN)


def write(folder, shown, **more):
    annotations = [
        {"id": 10 * n + k, "image_id": n, "category_id": one, "bbox": [0, 0, 1, 1]}
        for n, ids in enumerate(shown.values())
        for k, one in enumerate(ids)
    ]
    file = folder / "instances.json"
    tables = {"images": images(shown), "annotations": annotations, "categories": categories()}
    file.write_text(json.dumps(tables | more))
    return str(file)


def build(file, exclude=None, **options):
    return build_hal(file, question=QUESTION, exclude=exclude or {}, **options)


def asked(built, label):
    found = {}
    for record in built.questions:
        if record["label"] == label:
            name = (
                record["text"].removeprefix("Is there ").partition(" ")[2].partition(" in the")[0]
            )
            found.setdefault(record.get("image") or record["video"], set()).add(name)
    return found


def test_two_present_and_two_absent_objects_of_each_image(instances):
    built = build(instances)
    assert asked(built, "yes") == {
        "a/1.jpg": {"cat", "owl"},
        "a/2.jpg": {"owl", "sofa"},
        "b/1.jpg": {"cat", "tree"},
    }
    absent = asked(built, "no")
    assert {name: len(found) for name, found in absent.items()} == dict.fromkeys(SHOWN, 2)
    assert not absent["a/1.jpg"] & {"cat", "owl"}
    assert "Is there an owl in the image?" in [record["text"] for record in built.questions]
    assert built.counts == {"questions": 12, "images": 3, "classes": 6}


def test_the_seed_decides(instances):
    assert build(instances) == build(instances)
    assert len({json.dumps(build(instances, seed=seed)) for seed in range(8)}) > 1


def test_popular_and_adversarial_objects_are_those_that_fool(instances):
    # Most seen: cat and owl, twice each; with cat and tree: owl, once.
    assert asked(build(instances, negatives="popular", per_image=1), "no")["b/1.jpg"] == {"owl"}
    assert asked(build(instances, negatives="adversarial", per_image=1), "no")["b/1.jpg"] == {"owl"}


def test_panoptic_segments_say_what_is_there_too(tmp_path, instances):
    segments = [
        {
            "image_id": n,
            "segments_info": [{"id": k, "category_id": one} for k, one in enumerate(ids)],
        }
        for n, ids in enumerate(SHOWN.values())
    ]
    tables = {"images": images(SHOWN), "annotations": segments, "categories": categories()}
    panoptic = tmp_path / "panoptic.json"
    panoptic.write_text(json.dumps(tables))
    assert build(str(panoptic)) == build(instances)


@pytest.mark.parametrize("negatives", ["random", "popular", "adversarial"])
def test_excluded_classes_are_never_asked_about_by_any_of_their_names(instances, negatives):
    for seed in range(6):
        built = build(instances, {"seen": ["Couch", "CAT"]}, negatives=negatives, seed=seed)
        names = set().union(*asked(built, "yes").values(), *asked(built, "no").values())
        assert names <= {"owl", "car", "tree", "lamp"}
    assert built.counts["left out: class excluded"] == 2


def test_an_object_is_not_absent_where_another_class_of_its_name_is_present(tmp_path):
    names = ["blind, screen", "screen", "cat"]
    alike = [{"id": n, "name": name} for n, name in enumerate(names)]
    file = write(tmp_path, {"a.jpg": [0]}, categories=alike)
    for seed in range(8):
        assert asked(build(file, seed=seed), "no") == {"a.jpg": {"cat"}}


def test_a_video_shows_what_one_of_its_frames_shows(instances):
    built = build(instances, about="video", per_image=3)
    assert asked(built, "yes") == {"a": {"cat", "owl", "sofa"}, "b": {"cat", "tree"}}
    assert {"a"} == {r["video"] for r in built.questions if "owl in the video?" in r["text"]} - {
        "b"
    }
    assert built.counts["videos"] == 2


def test_frames_of_a_video_need_a_folder(tmp_path):
    file = write(tmp_path, {"1.jpg": [0]})
    with pytest.raises(DataError, match=r"'1.jpg' stands in no folder"):
        build(file, about="video")


def test_popes_reader_takes_the_questions(instances, tmp_path):
    file = tmp_path / "hal.json"
    file.write_text(json.dumps(build(instances, about="video").questions))
    questions = Pope(file, name="hal_act").questions()
    assert {question.sample.key for question in questions} == {"a", "b"}
    assert questions[0].key == "hal_act/1"
    assert Counter(question.meta["label"] for question in questions) == {"yes": 4, "no": 4}


def test_what_cannot_be_used_is_counted(tmp_path):
    file = write(tmp_path, {"a.jpg": [0, 99], "b.jpg": []})
    built = build(file)
    assert built.counts["unknown category id"] == 1
    assert built.counts["left out: image without a present or an absent object"] == 1


def test_says_when_nothing_is_left_to_ask(instances):
    with pytest.raises(DataError, match="nothing can be asked: 0 of 6 classes are left"):
        build(instances, {"seen": CLASSES})
    with pytest.raises(DataError, match="cannot read this file"):
        build("gone.json")


@pytest.mark.parametrize("given", [{"about": "sound"}, {"negatives": "rare"}, {"per_image": 0}])
def test_unknown_choices_are_refused(instances, given):
    with pytest.raises(ConfigError, match="this cannot be built"):
        build(instances, **given)


def test_none_of_cocos_own_classes_survives_its_list(real_data):
    shown = read_shown(str(real_data / "coco" / "instances_val2014_100images.json"))
    exclude = OmegaConf.to_container(OmegaConf.load(CONF / "exclude" / "coco.yaml"))
    assert set(exclude["classes"]) == set(shown.classes)
    assert len(shown.images) == 100
    every = [name for names in exclude.values() for name in names]
    assert len(every) == len(set(every))


@given(st.lists(st.text(min_size=1), min_size=1, max_size=6, unique=True))
def test_any_name_of_a_class_makes_a_question(names):
    with TemporaryDirectory() as folder:
        tables = [{"id": n, "name": name} for n, name in enumerate(names)]
        file = write(Path(folder), {"a.jpg": [0]}, categories=tables)
        try:
            labels = [record["label"] for record in build(file).questions]
        except DataError as error:  # all names are alike
            assert "nothing can be asked" in error.what
        else:
            assert labels == ["yes", "no"]
