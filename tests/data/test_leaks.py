import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from locvlm.data import Quarantine, write_shards
from locvlm.data.leaks import (
    NO_DIGEST,
    NO_ID,
    Benchmark,
    Identity,
    coco_id,
    digest,
    find_leak,
    identity,
    image_names,
    read_benchmark,
)
from locvlm.data.readers import CocoReader, LlavaReader
from locvlm.errors import DataError
from locvlm.types import Sample
from tests.data.conftest import annotated, picture, talked


def benchmark(*images):
    ids, digests = zip(*images, strict=True)
    return Benchmark("b", np.array(ids, np.int64), np.array(digests, np.uint64))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("COCO_val2014_000000569839.jpg", 569839),
        ("coco/train2017/000000000009.jpg", 9),
        ("000000569839", 569839),
        ("000000033471-5", 33471),
        (r"images\000000033471.png", 33471),
        ("569839.jpg", NO_ID),
        ("202311241530.jpg", NO_ID),
        ("0000000569839.jpg", NO_ID),
        ("00453/004539375.jpg", NO_ID),
        ("000000569839/1.jpg", NO_ID),
        ("", NO_ID),
    ],
)
def test_only_coco_file_names_hold_a_coco_id(name, expected):
    assert coco_id(name) == expected


def test_a_file_name_goes_before_the_key():
    image = picture()
    sample = Sample("000000000009", "x", image, (48, 40), extra={"image": "photo.jpg"})
    assert identity(sample) == Identity(NO_ID, digest(image))
    assert identity(Sample("000000000009", "x", image, (48, 40))).coco_id == 9
    assert identity(Sample("000000000009", "x")) == Identity(NO_ID, NO_DIGEST)


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (
            {"question_id": 1, "image": "COCO_val2014_000000000001.jpg"},
            ["COCO_val2014_000000000001.jpg"],
        ),
        ({"questions": [{"image_id": 458752}, {"image_id": "42"}]}, [458752, 42]),
        ({"07": {"imageId": "2405722"}, "08": {"imageId": "n578564"}}, ["2405722", "n578564"]),
        ({"image_id": 2405722}, ["2405722"]),
        (
            {
                "images": [{"id": 1, "file_name": "photo.jpg"}],
                "annotations": [{"image_id": 1}],
                "categories": [],
            },
            ["photo.jpg"],
        ),
        ([{"image": "a.jpg", "image_id": 7}], ["a.jpg"]),
        (
            [
                1,
                "text",
                None,
                {"image": None, "image_id": None},
                {"image": ["a.jpg"]},
                {"image_id": True},
            ],
            [],
        ),
    ],
)
def test_records_name_images_in_the_ways_of_benchmarks(value, names):
    assert list(image_names(value)) == names


JSON = st.recursive(
    st.none() | st.integers() | st.text() | st.floats(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(["image", "image_id", "images", "annotations", "x"]), inner
        )
    ),
)


@given(JSON)
def test_any_json_can_be_searched_for_images(value):
    for name in image_names(value):
        found = coco_id(name) if isinstance(name, str) else name
        assert NO_ID <= found < 1_000_000


def test_a_leak_is_told_by_id_or_by_bytes():
    found = find_leak(
        [5, NO_ID, 7, NO_ID, 5],
        [11, 12, 13, NO_DIGEST, 11],
        benchmark((5, NO_DIGEST), (NO_ID, 12), (7, 13), (8, 14), (NO_ID, NO_DIGEST)),
    )
    assert (found.n_images, found.n_leaked, found.n_by_id, found.n_by_bytes) == (5, 3, 2, 2)
    assert (found.n_unknown, found.n_has_bytes) == (1, 3)
    assert found.positions == (0, 1, 2, 4)


def test_unknown_images_are_no_leak():
    found = find_leak([NO_ID], [NO_DIGEST], benchmark((NO_ID, NO_DIGEST)))
    assert found.n_leaked == 0
    assert found.positions == ()


def test_a_folder_of_images_is_compared_by_name_and_bytes(tmp_path):
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "000000000009.JPG").write_bytes(picture())
    (tmp_path / "other.png").write_bytes(picture(1))
    (tmp_path / "readme.txt").write_text("no image")
    found = read_benchmark(tmp_path)
    assert found.coco_ids.tolist() == [NO_ID, 9]
    assert found.digests.tolist() == [digest(picture(1)), digest(picture())]


def test_shards_count_each_image_once_and_damaged_ones_as_unknown(shards):
    folder = shards([annotated(0), talked(0), talked(1), talked(2)])
    file = folder / "000000.tar"
    data = bytearray(file.read_bytes())
    data[data.index(b"It is 2.")] ^= 255
    file.write_bytes(data)
    found = read_benchmark(folder)
    assert found.digests.tolist() == [digest(picture(0)), digest(picture(1)), NO_DIGEST]


@pytest.mark.parametrize("name", ["pope.json", "pope.jsonl"])
def test_json_lines_are_read_whatever_the_name_says(tmp_path, name):
    lines = [{"image": f"00000000000{n % 2}.jpg"} for n in range(4)]
    (tmp_path / name).write_text("\n".join(map(json.dumps, lines)))
    found = read_benchmark(tmp_path / name)
    assert sorted(found.coco_ids.tolist()) == [0, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [("{}", "no image of a benchmark"), ('[\n{"image": "a.jpg"},\n}', "malformed.*\n.*line 3")],
)
def test_a_file_without_images_is_refused(tmp_path, text, message):
    (tmp_path / "b.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_benchmark(tmp_path / "b.json")


def test_a_missing_path_and_an_empty_folder_are_refused(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        read_benchmark(tmp_path / "nothing")
    with pytest.raises(DataError, match="no image of a benchmark"):
        read_benchmark(tmp_path)


def test_pope_asks_about_images_of_coco(real_data, tmp_path):
    """All 40 images of POPE's extract are in the COCO extract, 5 of them with a photo."""
    pope = read_benchmark(real_data / "pope" / "coco_pope_random_40images.json")
    coco = read_benchmark(real_data / "coco" / "instances_val2014_100images.json")
    photos = read_benchmark(real_data / "coco" / "images")
    assert (len(pope), len(coco), len(photos)) == (40, 100, 5)
    assert find_leak(coco.coco_ids, coco.digests, pope).n_leaked == 40
    assert find_leak(photos.coco_ids, photos.digests, coco).n_leaked == 5
    again = find_leak(photos.coco_ids, photos.digests, photos)
    assert again.n_by_id == again.n_by_bytes == 5


def test_vqa_asks_about_other_images_of_coco(real_data):
    """They are of train2014, the others of val2014; ids do not overlap."""
    vqa = read_benchmark(real_data / "vqa_v2" / "questions_180.json")
    coco = read_benchmark(real_data / "coco" / "instances_val2014_100images.json")
    assert (vqa.coco_ids != NO_ID).all()
    assert find_leak(coco.coco_ids, coco.digests, vqa).n_leaked == 0


def test_gqa_names_no_coco_images(real_data):
    gqa = read_benchmark(real_data / "gqa" / "questions.json")
    assert find_leak([578564], [1], gqa).n_unknown == len(gqa) == 1


def test_readers_keep_the_names_of_image_files(tmp_path):
    name = "COCO_val2014_000000000042.png"
    (tmp_path / name).write_bytes(picture())
    coco = {"images": [{"id": 5, "file_name": name}], "annotations": [], "categories": []}
    turns = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "A circle."}]
    llava = [{"id": "a", "image": name, "conversations": turns}]
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    (tmp_path / "llava.json").write_text(json.dumps(llava))
    for reader in (
        CocoReader(str(tmp_path / "coco.json"), str(tmp_path)),
        LlavaReader(str(tmp_path / "llava.json"), str(tmp_path)),
    ):
        [sample] = reader.read(Quarantine())
        assert identity(sample).coco_id == 42


def test_shards_of_real_photos_are_found_in_their_folder_and_in_pope(real_data, tmp_path):
    """POPE's extract asks about all five photos, among others."""
    source = real_data / "coco"
    reader = CocoReader(str(source / "instances_val2014_100images.json"), str(source / "images"))
    write_shards(reader.read(Quarantine()), tmp_path / "s", quarantine=Quarantine())
    found = read_benchmark(tmp_path / "s")
    photos = find_leak(found.coco_ids, found.digests, read_benchmark(source / "images"))
    assert photos.n_by_bytes == photos.n_by_id == 5
    pope = read_benchmark(real_data / "pope" / "coco_pope_random_40images.json")
    assert find_leak(found.coco_ids, found.digests, pope).n_by_id == 5
