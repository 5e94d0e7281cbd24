import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from threading import Thread

import pytest
from hydra import compose, initialize_config_module
from hydra.utils import instantiate

from locvlm.data import Shards, shard_writer
from locvlm.data.readers import CocoReader, LlavaReader
from locvlm.dialects import llava as llava_boxes
from locvlm.errors import ConfigError, DataError, LocVLMError
from locvlm.io import locked, sha256
from locvlm.objectives import LocPred, Mix, NegPred
from locvlm.prepare import prepare, scene_shards
from locvlm.types import Box
from tests.data.conftest import picture

SPLITS = {"train": 6, "val": 3, "test": 2}


def turns(question, answer):
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


@pytest.fixture
def raw(tmp_path):
    """A data set in both formats: 3 good images of 5, 3 good conversations of 5."""
    folder = tmp_path / "raw"
    (folder / "images").mkdir(parents=True)
    for n in range(4):
        # The last one is cut short after its header: only decoding shows it.
        data = picture(n) if n < 3 else picture(n)[:70]
        (folder / "images" / f"{n}.png").write_bytes(data)
    images = [{"id": n, "file_name": f"{n}.png", "width": 48, "height": 40} for n in range(5)]
    annotations = [
        {"id": n, "image_id": n, "category_id": 1 + n % 2, "bbox": [8, 8, 16, 16]} for n in range(5)
    ]
    categories = [{"id": 1, "name": "circle"}, {"id": 2, "name": "square"}]
    coco = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(coco))
    chat = [
        {"id": "a", "image": "0.png", "conversations": turns("<image>\nWhat?", "A circle.")},
        {"id": "b", "image": "1.png", "conversations": turns("Where?\n<image>", "On the left.")},
        {"id": "c", "conversations": turns("Hi", "Hello")},
        {"id": "d", "image": "3.png", "conversations": turns("What?", "A square.")},
        {"id": "e", "image": "2.png", "conversations": turns("What?", " ")},
    ]
    (folder / "chat.json").write_text(json.dumps(chat))
    return folder


@pytest.fixture
def coco(raw):
    return CocoReader(str(raw / "instances.json"), str(raw / "images"))


@pytest.fixture
def llava(raw):
    return LlavaReader(str(raw / "chat.json"), str(raw / "images"))


def samples(folder):
    found = Shards(folder)
    return [found[n] for n in range(len(found))]


def set_aside(folder):
    lines = (folder / "quarantine.jsonl").read_text().splitlines()
    return {record["key"]: record["reason"] for record in map(json.loads, lines)}


def test_annotated_images_become_shards_and_what_is_unusable_is_set_aside(coco, tmp_path):
    manifest = prepare(coco, tmp_path / "out")
    found = samples(tmp_path / "out")
    assert [sample.key for sample in found] == ["0", "1", "2"]
    assert [sample.instances[0].category for sample in found] == ["circle", "square", "circle"]
    assert found[0].instances[0].box == Box(8, 8, 24, 24)
    assert found[2].image == picture(2)
    assert found[1].absent == ("circle",)
    assert manifest["kinds"] == {"annotated image": 3}
    assert manifest["quarantined"]["records"] == 2
    reasons = set_aside(tmp_path / "out")
    assert reasons["3"].startswith("image cannot be decoded, 70 bytes")
    assert reasons["4"] == "image file is missing"


def test_conversations_become_shards_and_what_is_unusable_is_set_aside(llava, tmp_path):
    manifest = prepare(llava, tmp_path / "out")
    found = samples(tmp_path / "out")
    assert [[message.parts for message in sample.messages] for sample in found] == [
        [("What?",), ("A circle.",)],
        [("Where?",), ("On the left.",)],
        [("Hi",), ("Hello",)],
    ]
    assert [sample.image for sample in found] == [picture(0), picture(1), None]
    assert manifest["kinds"] == {"conversation": 2, "text-only conversation": 1}
    reasons = set_aside(tmp_path / "out")
    assert reasons["d"].startswith("image cannot be decoded")
    assert reasons["e"] == "conversation without an answer"


def test_conversations_can_be_made_once_and_for_all(coco, tmp_path):
    objective = Mix([LocPred(["Where is {category}?"]), NegPred(["Where is {category}?"])], [1, 1])
    manifest = prepare(coco, tmp_path / "out", objective=objective, seed=3)
    found = samples(tmp_path / "out")
    turns = {message.parts for message in found[0].messages}
    assert ("Where is circle?",) in turns
    assert ("It is located at ", Box(8, 8, 24, 24), ".") in turns
    assert ("There is no such object in the image.",) in turns
    assert manifest["kinds"] == {"conversation": 3}
    assert manifest["counts"]["turns"] == sum(len(sample.messages) for sample in found) // 2 == 6
    assert manifest["objective"]["weights"] == [1, 1]
    assert manifest["objective"]["seed"] == 3


def test_images_about_which_nothing_can_be_asked_are_counted(coco, raw, tmp_path):
    annotations = json.loads((raw / "instances.json").read_text())
    annotations["annotations"] = annotations["annotations"][:1]
    (raw / "instances.json").write_text(json.dumps(annotations))
    objective = Mix([LocPred(["Where is {category}?"])], [1])
    manifest = prepare(coco, tmp_path / "out", objective=objective)
    assert manifest["counts"]["samples"] == 1
    assert manifest["left_out"] == {"image without a question": 2}


def test_conversations_depend_on_seed_and_key_only(coco, tmp_path):
    def drawn(name, seed, **changes):
        objective = Mix([LocPred([f"{n} {{category}}" for n in range(99)])], [1])
        prepare(replace(coco, **changes), tmp_path / name, objective=objective, seed=seed)
        return [sample.messages for sample in samples(tmp_path / name)]

    assert drawn("a", 0) == drawn("b", 0) != drawn("c", 1)
    assert drawn("d", 0, limit=2) == drawn("b2", 0)[:2]


def test_the_manifest_tells_what_was_read_and_how(raw, tmp_path):
    file, images = str(raw / "instances.json"), str(raw / "images")
    reader = CocoReader(file, images, negatives="popular", limit=2, seed=5)
    manifest = prepare(reader, tmp_path / "out")
    assert manifest == json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["reader"] == {
        "name": "CocoReader",
        "instances": file,
        "images": images,
        "negatives": "popular",
        "n_negatives": 4,
        "single_instance_only": False,
        "min_area": 0.0,
        "limit": 2,
        "seed": 5,
    }
    assert manifest["sources"] == {file: sha256((raw / "instances.json").read_bytes())}


def test_the_manifest_tells_how_many_good_records_were_left_out(raw, tmp_path):
    data = json.loads((raw / "instances.json").read_text())
    data["annotations"].append(data["annotations"][0])
    (raw / "instances.json").write_text(json.dumps(data))
    file, images = str(raw / "instances.json"), str(raw / "images")
    manifest = prepare(CocoReader(file, images, single_instance_only=True), tmp_path / "out")
    assert manifest["left_out"] == {"image without a single instance": 1}
    assert manifest["counts"]["samples"] == manifest["counts"]["single_instances"] == 2


def test_shards_hold_as_many_samples_as_they_are_told(coco, tmp_path):
    manifest = prepare(coco, tmp_path / "out", per_shard=2)
    assert [shard["samples"] for shard in manifest["shards"]] == [2, 1]


def test_the_number_of_cores_changes_no_byte(coco, raw, tmp_path, monkeypatch):
    monkeypatch.setattr(shard_writer, "_FEW", 1)
    for name in ("1", "2", "5"):
        monkeypatch.setattr(os, "cpu_count", lambda name=name: int(name))
        prepare(coco, tmp_path / name, per_shard=2)
    first, *others = ({f.name: f.read_bytes() for f in (tmp_path / n).iterdir()} for n in "125")
    assert len(first) == 6
    assert others == [first, first]


def test_shards_are_not_replaced_unasked(coco, llava, tmp_path):
    prepare(coco, tmp_path / "out")
    with pytest.raises(ConfigError, match="holds shards already") as error:
        prepare(llava, tmp_path / "out")
    assert error.value.where == str(tmp_path / "out")
    assert "overwrite=true" in error.value.fix
    assert [sample.key for sample in samples(tmp_path / "out")] == ["0", "1", "2"]
    prepare(llava, tmp_path / "out", overwrite=True)
    assert [sample.key for sample in samples(tmp_path / "out")] == ["a", "b", "c"]


def test_a_folder_of_somebody_else_is_never_replaced(coco, raw):
    with pytest.raises(LocVLMError, match="replace a folder without"):
        prepare(coco, raw, overwrite=True)
    assert (raw / "chat.json").is_file()


def test_a_data_set_without_usable_sample_leaves_no_folder(coco, raw, tmp_path):
    shutil.rmtree(raw / "images")
    (raw / "images").mkdir()
    with pytest.raises(
        DataError, match=r"no usable sample: 5 x image file is missing(?s:.*)images="
    ):
        prepare(coco, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_real_annotations_and_photos_become_shards(real_data, tmp_path):
    folder = real_data / "coco"
    annotations = folder / "instances_val2014_100images.json"
    prepare(CocoReader(str(annotations), str(folder / "images")), tmp_path / "out")
    found = {sample.key: sample for sample in samples(tmp_path / "out")}
    records = json.loads(annotations.read_text())
    for image in records["images"]:
        photo = folder / "images" / image["file_name"]
        assert (str(image["id"]) in found) == photo.is_file()
    for sample in found.values():
        boxes = [a["bbox"] for a in records["annotations"] if str(a["image_id"]) == sample.key]
        assert len(boxes) == len(sample.instances) > 0
        for (x, y, width, height), instance in zip(boxes, sample.instances, strict=True):
            assert instance.box == pytest.approx((x, y, x + width, y + height), abs=0.01)
    assert len(found) == 5
    assert len(set_aside(tmp_path / "out")) == 95


def test_real_captions_become_conversations_about_the_images_that_are_there(real_data, tmp_path):
    conversations = real_data / "llava_format" / "blip_laion_cc_sbu_40.json"
    records = json.loads(conversations.read_text())
    # The extract has no photos of its own.
    photos = sorted((real_data / "coco" / "images").iterdir())
    for record, photo in zip(records, photos, strict=False):
        place = tmp_path / "images" / record["image"]
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, place)
    prepare(LlavaReader(str(conversations), str(tmp_path / "images")), tmp_path / "out")
    found = samples(tmp_path / "out")
    assert [sample.key for sample in found] == [record["id"] for record in records[: len(photos)]]
    for sample, record, photo in zip(found, records, photos, strict=False):
        question, answer = (message.parts for message in sample.messages)
        asked, said = (turn["value"] for turn in record["conversations"])
        assert question == (asked.replace("<image>", "").strip(),)
        assert answer == (said,)
        assert sample.image == photo.read_bytes()
    assert len(set_aside(tmp_path / "out")) == 40 - len(photos)


@pytest.fixture(scope="module")
def scenes():
    """Prepares one split of a few scenes."""
    with initialize_config_module("locvlm.conf", version_base="1.3"):
        settings = compose(overrides=["+scenes=default"]).scenes
    world, talk = instantiate(settings.world), instantiate(settings.talk)

    def run(folder, split="val", kind="localization", **options):
        options = {"world": world, "talk": talk, "splits": SPLITS} | options
        return scene_shards(folder, split, kind, **options)

    return run


def test_scenes_are_drawn_and_prepared_where_they_are_missing(scenes, tmp_path):
    located = samples(scenes(tmp_path / "scenes", "train", "localization"))
    talked = samples(scenes(tmp_path / "scenes", "val", "conversation"))
    assert (len(located), len(talked)) == (6, 3)
    assert all(sample.instances and not sample.messages for sample in located)
    assert all(sample.messages and not sample.instances for sample in talked)
    file = tmp_path / "scenes" / "train" / "images" / "train-000000.png"
    assert located[0].image == file.read_bytes()


def test_scenes_that_are_prepared_are_left_as_they_are(scenes, tmp_path):
    first = scenes(tmp_path / "scenes")
    before = os.stat(f"{first}/manifest.json").st_mtime_ns
    assert scenes(tmp_path / "scenes") == first
    assert os.stat(f"{first}/manifest.json").st_mtime_ns == before


def test_other_scenes_get_shards_of_their_own(scenes, tmp_path):
    first = samples(scenes(tmp_path / "scenes"))
    other = samples(scenes(tmp_path / "scenes", seed=1))
    assert {sample.image for sample in first}.isdisjoint(sample.image for sample in other)


@pytest.mark.parametrize("manifest", [None, '{"format": "locvlm shards", "version": 0}'])
def test_shards_that_are_missing_or_of_another_version_are_made_anew(scenes, tmp_path, manifest):
    file = tmp_path / "scenes" / "shards" / "val-localization" / "manifest.json"
    scenes(tmp_path / "scenes")
    if manifest is None:
        shutil.rmtree(file.parent)
    else:
        file.write_text(manifest)
    assert len(samples(scenes(tmp_path / "scenes"))) == 3


def test_two_processes_draw_scenes_one_after_the_other(scenes, tmp_path):
    folder = tmp_path / "scenes"
    second = Thread(target=scenes, args=[folder])
    with locked(folder):
        second.start()
        second.join(0.5)
        assert list(tmp_path.iterdir()) == []
    second.join()
    assert len(samples(folder / "shards" / "val-localization")) == 3


def command(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "locvlm.prepare", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_reads_paths_from_where_it_is_called_and_prints_what_it_wrote(raw):
    inputs = ["instances=instances.json", "images=images"]
    done = command("source=coco", *inputs, "output=../out/coco", "per_shard=2", cwd=raw)
    assert done.returncode == 0, done.stderr
    cells = [line.strip("│ ").split("│") for line in done.stdout.splitlines() if "│" in line]
    assert {name.strip(): int(number) for name, number in cells} == {
        "shards": 2,
        "samples": 3,
        "images": 3,
        "instances": 3,
        "single_instances": 3,
        "absent": 3,
        "turns": 0,
        "categories": 2,
        "set aside: image cannot be decoded": 1,
        "set aside: image file is missing": 1,
    }
    assert done.stdout.startswith("Shards in")  # no empty line of a progress bar
    assert "Set aside, with reasons: ../out/coco/quarantine.jsonl" in done.stdout
    assert len(Shards(raw.parent / "out" / "coco")) == 3


@pytest.mark.slow
def test_the_command_prepares_conversations_too_and_says_nothing_of_what_is_not(raw):
    chat = json.loads((raw / "chat.json").read_text())
    chat[0]["conversations"][1]["value"] = "A circle at [0.12, 0.34, 0.56, 0.78]."
    (raw / "good.json").write_text(json.dumps(chat[:3]))
    inputs = ["conversations=good.json", "images=images", "source.limit=2"]
    done = command("source=llava", *inputs, "output=out", cwd=raw)
    assert done.returncode == 0, done.stderr
    assert "aside" not in done.stdout
    assert "+dialect@source.dialect=llava" in done.stdout
    assert [sample.key for sample in samples(raw / "out")] == ["a", "b"]


@pytest.mark.parametrize(("dialect", "counts"), [(None, (0, 1)), (llava_boxes(), (1, 0))])
def test_boxes_that_stay_text_are_counted(raw, tmp_path, dialect, counts):
    box = turns("<image>\nWhere is it?", "At [0.12, 0.34, 0.56, 0.78].")
    chat = [{"id": "a", "image": "0.png", "conversations": box}]
    (raw / "chat.json").write_text(json.dumps(chat))
    reader = LlavaReader(str(raw / "chat.json"), str(raw / "images"), dialect=dialect)
    found = prepare(reader, tmp_path / "shards")["counts"]
    assert (found["locations"], found["with_plain_locations"]) == counts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["images=images", "output=out"], "fix:   add instances=FILE"),
        (["instances=instances.json", "output=out"], "fix:   add images=FOLDER"),
        (["source=llava", "images=images", "output=out"], "fix:   add conversations=FILE"),
        (["instances=instances.json", "images=images"], "output"),
        (["instances=none.json", "images=images", "output=out"], "where: none.json"),
        (["instances=chat.json", "images=images", "output=out"], "not a COCO instances file"),
        (["instances=instances.json", "images=images", "output=."], "without manifest.json"),
        (["source=coco", "source.negativs=popular", "output=out"], "negativs"),
        (["source=no_such", "output=out"], "no source is called 'no_such"),
    ],
)
def test_mistakes_get_one_message_and_leave_nothing(raw, arguments, message):
    done = command(*arguments, cwd=raw)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (raw / "out").exists()


@pytest.mark.slow
def test_an_interrupted_command_ends_all_its_processes_and_leaves_nothing(raw):
    images = [{"id": n, "file_name": "0.png"} for n in range(50_000)]
    tables = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "circle"}]}
    (raw / "instances.json").write_text(json.dumps(tables))
    arguments = ["instances=instances.json", "images=images", "output=out/coco", "per_shard=100"]
    running = subprocess.Popen(
        [sys.executable, "-m", "locvlm.prepare", *arguments],
        cwd=raw,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not list(raw.rglob("*.waiting")) and running.poll() is None:
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does
    assert running.communicate() == ("", "interrupted\n")  # and nobody holds these open
    assert running.returncode == 130
    assert list((raw / "out").iterdir()) == []
