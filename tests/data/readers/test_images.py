import io
from pathlib import Path

import pytest
from PIL import Image

from locvlm.data.readers.images import check_folder, image_name, read_image, record_images
from locvlm.errors import ConfigError, DataError


@pytest.fixture
def folder(tmp_path):
    """A folder of images beside which lies one that belongs to somebody else."""
    inner = tmp_path / "images"
    (inner / "val").mkdir(parents=True)
    Image.new("RGB", (5, 4)).save(inner / "val" / "a b (1).png")
    Image.new("RGB", (7, 3)).save(tmp_path / "secret.png")
    return inner


def test_gives_the_bytes_of_the_file_and_its_width_and_height(folder):
    data, size = read_image(folder, "val/a b (1).png")
    assert data == (folder / "val" / "a b (1).png").read_bytes()
    assert size == Image.open(io.BytesIO(data)).size == (5, 4)


def test_an_image_may_be_a_link_to_another_disk(folder):
    (folder / "link.png").symlink_to(folder.parent / "secret.png")
    assert read_image(folder, "link.png")[1] == (7, 3)


@pytest.mark.parametrize(
    "name", ["../secret.png", "val/../../secret.png", "{outside}", "", None, 7, ["a.png"]]
)
def test_a_name_never_leads_out_of_the_folder(folder, name):
    if name == "{outside}":
        name = str(folder.parent / "secret.png")
    with pytest.raises(DataError, match="none below the image folder") as error:
        read_image(folder, name)
    assert error.value.where == f"{folder}/{name}"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("val/none.png", "^image file is missing\n"),
        ("val", "image is not a file"),
        ("val/a b (1).png/b.png", "image file cannot be read: .*directory"),
        ("x" * 300, "image file cannot be read: .*too long"),
        ("notes.png", "not an image in a known format, 5 bytes"),
    ],
)
def test_what_is_no_image_is_named_with_the_reason(folder, name, reason):
    (folder / "notes.png").write_text("words")
    with pytest.raises(DataError, match=reason) as error:
        read_image(folder, name)
    assert error.value.where == f"{folder}/{name}"


def test_the_folder_is_given_back_where_it_is_there(folder):
    assert check_folder(str(folder)) == folder


def test_a_folder_that_was_not_given_is_asked_for():
    with pytest.raises(ConfigError, match="a folder of images is needed") as error:
        check_folder(None)
    assert error.value.where == "source.images"
    assert error.value.fix.startswith("add images=FOLDER")


@pytest.mark.parametrize("name", ["nowhere", "secret.png"])
def test_a_folder_that_is_none_is_named(folder, name):
    missing = str(folder.parent / name)
    with pytest.raises(DataError, match="no such image folder") as error:
        check_folder(missing)
    assert error.value.where == missing


def test_reads_the_gif_that_an_annotation_calls_jpg(folder):
    Image.new("RGB", (9, 2)).save(folder / "val" / "782118577.gif")
    assert read_image(folder, "val/782118577.jpg")[1] == (9, 2)
    Image.new("RGB", (3, 3)).save(folder / "val" / "782118577.jpg")
    assert read_image(folder, "val/782118577.jpg")[1] == (3, 3)
    with pytest.raises(DataError, match="image file is missing"):
        read_image(folder, "val/782118577.png")


def test_absolute_paths_are_found_below_any_folder_above_them(folder):
    path = str(folder / "val" / "a b (1).png")
    for above in (Path("/"), folder.parent, folder):
        assert read_image(above, image_name(path, above))[1] == (5, 4)
        assert read_image(above, image_name({"path": path}, above))[1] == (5, 4)


@pytest.mark.parametrize(
    ("record", "found"),
    [
        ({}, []),
        ({"image": "a.jpg"}, ["a.jpg"]),
        ({"image": None, "images": []}, []),
        ({"images": "a.jpg"}, ["a.jpg"]),
        ({"image": ["a.jpg", "b.jpg"]}, ["a.jpg", "b.jpg"]),
        ({"conversations": 5}, []),
        ({"conversations": [{"value": "Picture 1: <img>a/b.jpeg</img>\nWhat?"}]}, ["a/b.jpeg"]),
        ({"conversations": [{"value": "Write <img>an example</img>"}, 5, {"value": None}]}, []),
        ({"conversations": [{"value": "<img>a.png</img><img>a.png</img>"}]}, ["a.png"]),
    ],
)
def test_finds_what_a_record_names_as_its_images(record, found):
    assert record_images(record) == found
