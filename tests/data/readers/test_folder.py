import os

import pytest
from PIL import Image

from locvlm.data.readers import FolderReader
from locvlm.errors import ConfigError, DataError
from tests.data.readers.fuzz import read_all


@pytest.fixture
def folder(tmp_path):
    """Two images, one of them a folder deeper, and a text."""
    root = tmp_path / "images"
    (root / "deeper").mkdir(parents=True)
    Image.new("RGB", (8, 6)).save(root / "b.png")
    Image.new("RGB", (5, 4)).save(root / "deeper" / "a (1).JPG")
    (root / "notes.txt").write_text("words")
    return root


def test_images_become_samples_without_annotations(folder):
    samples, quarantine = read_all(FolderReader(str(folder)))
    assert {key: sample.size for key, sample in samples.items()} == {
        "b.png": (8, 6),
        "deeper/a (1).JPG": (5, 4),
    }
    for key, sample in samples.items():
        assert sample.image == (folder / key).read_bytes()
        assert sample.extra == {"image": key}
        assert sample.instances == sample.messages == sample.absent == ()
    assert not len(quarantine)


def test_samples_come_sorted_whatever_the_disk_says(folder, monkeypatch):
    for name in "cadef":
        Image.new("RGB", (8, 6)).save(folder / f"{name}.png")
    listed = os.scandir

    class Backwards:
        def __init__(self, path):
            with listed(path) as entries:
                self.entries = iter(sorted(entries, key=lambda entry: entry.name, reverse=True))

        def __enter__(self):
            return self.entries

        def __exit__(self, *_):
            pass

        def __next__(self):
            return next(self.entries)

        def __iter__(self):
            return self.entries

    monkeypatch.setattr(os, "scandir", Backwards)
    names = list(read_all(FolderReader(str(folder)))[0])
    assert names == [*(f"{name}.png" for name in "abcdef"), "deeper/a (1).JPG"]


def test_links_are_followed_and_loops_end(folder, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    Image.new("RGB", (3, 3)).save(elsewhere / "z.png")
    (folder / "linked").symlink_to(elsewhere)
    (folder / "deeper" / "up").symlink_to(folder)
    (elsewhere / "self").symlink_to(elsewhere)
    samples, quarantine = read_all(FolderReader(str(folder)))
    assert list(samples) == ["b.png", "deeper/a (1).JPG", "linked/z.png"]
    assert not len(quarantine)


def test_what_is_no_image_is_set_aside(folder):
    (folder / "fake.png").write_text("words")
    (folder / "gone.png").symlink_to(folder / "none")
    os.mkfifo(folder / "pipe.png")
    (folder / "named.png").mkdir()
    samples, quarantine = read_all(FolderReader(str(folder)))
    assert len(samples) == 2
    assert [record["key"] for record in quarantine.records] == ["fake.png", "gone.png", "pipe.png"]
    assert list(quarantine.reasons) == [
        "image file is missing",
        "image is not a file",
        "not an image in a known format",
    ]


def test_a_name_that_is_no_text_is_set_aside(folder):
    with open(os.fsencode(folder) + b"/\xff.png", "wb") as file:
        file.write((folder / "b.png").read_bytes())
    samples, quarantine = read_all(FolderReader(str(folder)))
    assert len(samples) == 2
    assert list(quarantine.reasons) == ["image path is none below the image folder"]


def test_a_folder_that_cannot_be_read_is_set_aside(folder, monkeypatch):
    listed = os.scandir

    def refuse(path):
        if str(path).endswith("deeper"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", refuse)
    samples, quarantine = read_all(FolderReader(str(folder)))
    assert list(samples) == ["b.png"]
    assert list(quarantine.reasons) == ["folder cannot be read"]


def test_a_limit_stops_early(folder):
    assert list(read_all(FolderReader(str(folder), limit=1))[0]) == ["b.png"]


def test_reads_the_real_photos(real_data):
    samples, quarantine = read_all(FolderReader(str(real_data / "coco" / "images")))
    assert len(samples) == 5
    assert not len(quarantine)


def test_a_folder_must_be_given_and_there(tmp_path):
    with pytest.raises(ConfigError, match="a folder of images is needed"):
        read_all(FolderReader(None))
    with pytest.raises(DataError, match="no such image folder"):
        read_all(FolderReader(str(tmp_path / "none")))
