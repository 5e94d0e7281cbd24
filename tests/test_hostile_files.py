"""Hostile annotation files through every reader: `prepare` goes on, and what is bad is named."""

import copy
import json
import os
import pickle

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from locvlm.data import Shards
from locvlm.data.readers import (
    CocoCaptionsReader,
    CocoReader,
    FerretReader,
    FolderReader,
    LlavaReader,
    MdetrReader,
    PanopticReader,
    RefCocoReader,
    SwiftReader,
    VisualGenomeReader,
)
from locvlm.dialects import llava
from locvlm.errors import DataError, LocVLMError
from locvlm.objectives import LocPred, Mix
from locvlm.prepare import prepare
from tests.data.conftest import picture
from tests.data.readers.fuzz import places
from tests.hostile import BOMBS, harmless, modest

LOCATE = Mix([LocPred(["Where is {category}?"])], [1])
NAMES = ("0.png", "1.png")


def file(path, value):
    """Writes JSON, JSON Lines or a pickle, by the name's ending; names in `UNDECODABLE` as that."""
    if path.suffix == ".p":
        path.write_bytes(pickle.dumps(value, 2))
        return str(path)
    lines = value if path.suffix == ".jsonl" else [value]
    text = "".join(f"{json.dumps(record)}\n" for record in lines)
    for name, written in UNDECODABLE.items():
        text = text.replace(json.dumps(name), written)
    path.write_text(text)
    return str(path)


def coco(annotation, **image):
    images = [
        {"id": n, "file_name": name, "width": 48, "height": 40} | image
        for n, name in enumerate(NAMES)
    ]
    annotations = [{"id": n, "image_id": n, "category_id": 1} | annotation for n in (0, 1)]
    categories = [{"id": 1, "name": "circle"}, {"id": 2, "name": "square"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def chats(question="<image>\nWhat?", **more):
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": "[0.1, 0.2, 0.3, 0.4]"}]
    return [
        {"id": f"chat {n}", "image": name, "conversations": turns, "kind": "talk"} | more
        for n, name in enumerate(NAMES)
    ]


# What no decoder makes a value of, by what is said about it
UNDECODABLE = {
    "nested too deeply": "[" * 10**5 + "]" * 10**5,
    "integer string conversion": f'{{"id": {"1" * 5_000}}}',
}
BOX = {"bbox": [8, 8, 16, 16]}
FERRET = {"image_w": 48, "image_h": 40, "box_x1y1x2y2": [[[1, 2, 3, 4]], []]}
SEGMENTS = {"segments_info": [{"category_id": 1, **BOX}]}
SWIFT = {
    "messages": [
        {"role": "user", "content": "<image>Where is <ref-object>?"},
        {"role": "assistant", "content": "<bbox>"},
    ],
    "objects": {"ref": ["cat"], "bbox": [[1, 2, 3, 4]]},
}
REFS = {"split": "train", "sentences": [{"sent": "left cat"}]}
REGION = {"phrase": "a cat", "x": 1, "y": 2, "width": 9, "height": 9}
# For each reader its files, by name, and how it is made from their paths and the image folder.
READERS = {
    "coco": (
        {"a.json": coco({**BOX, "description": "red circle"})},
        lambda a, images: CocoReader(a, images, negatives="adversarial", min_area=3),
    ),
    "captions": (
        {"a.json": coco({"caption": "A circle."})},
        lambda a, images: CocoCaptionsReader(a, images, ["Describe it."]),
    ),
    "llava": ({"a.json": chats()}, lambda a, images: LlavaReader(a, images, llava())),
    "llava lines": ({"a.jsonl": chats()}, LlavaReader),
    "ferret": ({"a.json": chats("At <bbox_location0>?", **FERRET)}, FerretReader),
    "panoptic": (
        {"a.json": coco(SEGMENTS)},
        lambda a, images: PanopticReader(a, images, things_only=True),
    ),
    "mdetr": ({"a.json": coco(BOX, caption="left cat")}, MdetrReader),
    "swift": ({"a.jsonl": [{**SWIFT, "images": [name]} for name in NAMES]}, SwiftReader),
    "refcoco": (
        {"a.p": [{**REFS, "ann_id": n, "image_id": n} for n in (0, 1)], "b.json": coco(BOX)},
        lambda a, b, images: RefCocoReader(a, b, images, split="train"),
    ),
    "visual genome": (
        {
            "a.json": [{"id": n, "regions": [REGION]} for n in (0, 1)],
            "b.json": [{"image_id": n, "url": f"h/VG/{name}"} for n, name in enumerate(NAMES)],
        },
        VisualGenomeReader,
    ),
}


def deep(levels):
    value = []
    for _ in range(levels):
        value = [value]
    return value


VALUES = [
    *("../mine.png", "{mine}", "../../../etc/passwd", "0.png\0", "pipe:touch evil", "a\ud800"),
    *("http://127.0.0.1:9/a.png", "file:///etc/passwd", "C:\\a.png", "", ".", "/", "<image>" * 3),
    *("x" * 10**6, " " * 10**5, "[0.1, " * 10**4, "[0." + "1" * 10**5, "<bbox>" * 10**4),
    *(10**400, -1, 0, float("nan"), float("inf"), None, True, {}, [], [1] * 9999, deep(900)),
    *("\ud800", ["1", "2", "3", "4"], [8, 8, -16, -16], [float("nan")] * 4, [10**400] * 4),
]
IMAGE_NAMES = [name for name in VALUES if isinstance(name, str) and name and len(name) < 40]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A folder of two images, beside which lies one that is somebody else's."""
    root = tmp_path_factory.mktemp("root")
    (root / "images" / "VG").mkdir(parents=True)
    for n, name in enumerate(NAMES):
        (root / "images" / name).write_bytes(picture(n))
        (root / "images" / "VG" / name).write_bytes(picture(n))
    (root / "mine.png").write_bytes(picture(9))
    return root


def prepared(root, kind, files):
    """Keys and images of the samples that `prepare` writes, and the quarantine's records."""
    make = READERS[kind][1]
    reader = make(
        *(file(root / name, value) for name, value in files.items()), str(root / "images")
    )
    with harmless(root):
        prepare(reader, root / "out", overwrite=True, objective=None)
        prepare(reader, root / "out", overwrite=True, objective=LOCATE)
    found = Shards(root / "out")
    samples = [found[position] for position in range(len(found))]
    lines = (root / "out" / "quarantine.jsonl").read_text().splitlines()
    return {sample.key: sample.image for sample in samples}, list(map(json.loads, lines))


def changed(value, path, new):
    value = copy.deepcopy(value)
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = new
    return value


@pytest.mark.parametrize("kind", READERS)
def test_every_reader_reads_its_files_as_they_are(root, kind):
    images, quarantine = prepared(root, kind, READERS[kind][0])
    assert sorted(images.values()) == sorted(map(picture, (0, 1)))
    assert quarantine == []


@pytest.mark.parametrize("name", IMAGE_NAMES)
@pytest.mark.parametrize("kind", READERS)
def test_an_image_name_leads_nowhere_else_and_the_other_image_is_used(root, kind, name):
    files = READERS[kind][0]
    name = str(root / "mine.png") if name == "{mine}" else name
    for which, value in files.items():
        for path in places(value):
            if path and path[-1] in ("file_name", "image", "url") and path[-2] in (0, "0"):
                files = files | {which: changed(value, path, name)}
    if kind == "swift":
        files = {"a.jsonl": changed(files["a.jsonl"], (0, "images", 0), name)}
    images, quarantine = prepared(root, kind, files)
    assert list(images.values()) == [picture(1)]
    assert len(quarantine) == 1
    assert quarantine[0]["where"].startswith(str(root))


@pytest.mark.parametrize("kind", ["coco", "captions", "panoptic", "mdetr"])
def test_half_a_character_is_no_id(root, kind):
    tables = changed(READERS[kind][0]["a.json"], ("images", 0, "id"), "\ud800")
    tables = changed(tables, ("annotations", 0, "image_id"), "\ud800")
    images, quarantine = prepared(root, kind, {"a.json": tables})
    assert list(images.values()) == [picture(1)]
    assert quarantine


def with_first(item, files):
    """`files` with `item` at the start of one of the lists that are read in a stream, and which."""
    for which, value in files.items():
        if isinstance(value, dict):
            yield from ((which, key, {which: value | {key: [item, *value[key]]}}) for key in value)
        elif not which.endswith(".p"):
            yield which, None, {which: [item, *value]}


@pytest.mark.parametrize("item", [*UNDECODABLE, None, 7])
@pytest.mark.parametrize("kind", READERS)
def test_an_item_that_is_no_record_costs_that_item_only(root, kind, item):
    for which, key, changed_file in with_first(item, READERS[kind][0]):
        if key == "categories":
            continue
        images, quarantine = prepared(root, kind, READERS[kind][0] | changed_file)
        assert sorted(images.values()) == sorted(map(picture, (0, 1)))
        assert len(quarantine) == 1
        assert quarantine[0]["where"].startswith(str(root / which))
        if item in UNDECODABLE:
            assert item in quarantine[0]["reason"]
            assert ", line 1" in quarantine[0]["where"]


@pytest.mark.parametrize("item", [*UNDECODABLE, None, 7])
@pytest.mark.parametrize("kind", ["coco", "panoptic", "mdetr", "refcoco"])
def test_without_all_categories_no_image_is_read(root, kind, item):
    what = item if item in UNDECODABLE else "record without"
    for _, key, changed_file in with_first(item, READERS[kind][0]):
        if key == "categories":
            with pytest.raises(DataError, match=what):
                prepared(root, kind, READERS[kind][0] | changed_file)


@pytest.mark.parametrize("kind", READERS)
def test_any_value_anywhere_is_read_or_set_aside(root, kind):
    files = READERS[kind][0]
    everywhere = [(which, path) for which, value in files.items() for path in places(value) if path]

    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.sampled_from(everywhere), st.sampled_from(VALUES))
    def check(place, value):
        which, path = place
        try:
            images, _ = prepared(root, kind, files | {which: changed(files[which], path, value)})
        except LocVLMError as error:
            assert str(root) in str(error)
        else:
            assert set(images.values()) <= {picture(0), picture(1), None}

    with modest(600):
        check()


@pytest.mark.parametrize("kind", READERS)
def test_whatever_happens_to_a_file_only_its_own_images_come(root, kind):
    files = READERS[kind][0]

    @settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.sampled_from(sorted(files)), st.integers(0, 2000), st.integers(0, 255), st.booleans())
    def check(which, at, value, is_cut):
        paths = {name: root / name for name in files}
        for name, path in paths.items():
            file(path, files[name])
        data = bytearray(paths[which].read_bytes())
        data[at % len(data)] = value
        paths[which].write_bytes(data[: at % len(data)] if is_cut else data)
        reader = READERS[kind][1](*map(str, paths.values()), str(root / "images"))
        with harmless(root):
            try:
                prepare(reader, root / "out", overwrite=True)
            except LocVLMError as error:
                assert str(root) in str(error)

    check()


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil",)


@pytest.mark.parametrize("hidden", [Evil(), {"sentences": Evil()}, [[Evil()]]])
def test_a_pickle_that_asks_for_code_is_refused_by_name(root, hidden):
    files = READERS["refcoco"][0]
    with pytest.raises(DataError, match=r"pickle asks '.*system', which is no plain data"):
        prepared(root, "refcoco", files | {"a.p": [*files["a.p"], hidden]})


def test_a_hundred_thousand_turns_are_read(root):
    turns = chats("What?")[0]["conversations"] * 50_000
    with modest(600):
        files = {"a.jsonl": chats(conversations=turns)[:1]}
        images, quarantine = prepared(root, "llava lines", files)
    assert list(images.values()) == [picture(0)]
    assert quarantine == []


@pytest.mark.parametrize("question", [" " * 10**6 + "What?", " " * 10**6 + "<image>" + " " * 10**6])
@pytest.mark.parametrize("kind", ["llava", "ferret"])
def test_a_million_spaces_are_read(root, kind, question):
    # An expression for the marker with the space around it would take an hour.
    files = {"a.json": [{**READERS[kind][0]["a.json"][0], **chats(question)[0]}]}
    images, quarantine = prepared(root, kind, files)
    assert list(images.values()) == [picture(0)]
    assert quarantine == []


def test_image_files_that_are_not_what_they_say_are_set_aside(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for n, data in enumerate(BOMBS.values()):
        (folder / f"{n}.jpg").write_bytes(data)
    (folder / "good.png").write_bytes(picture(1))
    (folder / "endless.png").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.png")
    (folder / "hole.png").touch()
    os.truncate(folder / "hole.png", 10**12)
    with harmless(tmp_path), modest():
        manifest = prepare(FolderReader(str(folder)), tmp_path / "out")
    assert manifest["counts"]["samples"] == 1
    assert manifest["quarantined"]["records"] == len(BOMBS) + 3
    lines = (tmp_path / "out" / "quarantine.jsonl").read_text().splitlines()
    assert all(str(folder) in json.loads(line)["where"] for line in lines)
