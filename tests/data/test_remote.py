import functools
import json
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

import locvlm.data.remote
from locvlm.data import LocVLMDataModule, Source
from locvlm.data.manifest import MANIFEST
from locvlm.data.remote import find_remote
from locvlm.data.shards import Shards
from locvlm.errors import ConfigError, DataError, LocVLMError
from tests.data.conftest import talked


@pytest.fixture
def store(tmp_path):
    """A folder behind a URL of this machine, and what was asked of it."""
    asked = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            asked.append(self.path)

    folder = tmp_path / "store"
    folder.mkdir()
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()


@pytest.fixture
def remote(store, shards):
    """URL of ten conversations in three shards."""
    folder, url, asked = store
    written = shards([talked(n) for n in range(10)])
    written.rename(folder / "mine")
    return f"{url}/mine"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(locvlm.data.remote.time, "sleep", lambda seconds: None)


def test_shards_of_a_store_are_read_like_those_of_a_folder(remote, store, tmp_path):
    here = Shards(store[0] / "mine")
    there = Shards(remote, tmp_path / "cache")
    assert [there[n].messages for n in range(10)] == [here[n].messages for n in range(10)]
    assert there.lengths == here.lengths == [4, 4, 2]
    assert there.readable.tolist() == list(range(10))


def test_a_shard_is_fetched_once_when_a_sample_of_it_is_read(remote, store, tmp_path):
    asked = store[2]
    shards = Shards(remote, tmp_path / "cache")
    assert not [path for path in asked if path.endswith(".tar")]
    assert [shards[n].key for n in (1, 0, 3)] == ["talk 1", "talk 0", "talk 3"]
    assert Shards(remote, tmp_path / "cache")[2].key == "talk 2"
    assert [path for path in asked if path.endswith(".tar")].count("/mine/000000.tar") == 1
    n_asked = len(asked)
    assert shards[1].key == "talk 1"
    assert len(asked) == n_asked


def test_a_folder_that_was_uploaded_again_is_fetched_again(remote, store, shards, tmp_path):
    assert Shards(remote, tmp_path / "cache")[0].key == "talk 0"
    again = shards([talked(n) for n in range(20, 24)], name="again")
    (store[0] / "mine").rename(store[0] / "old")
    again.rename(store[0] / "mine")
    assert Shards(remote, tmp_path / "cache")[0].key == "talk 20"


def test_a_damaged_shard_stops_the_run_at_once(remote, store, tmp_path):
    shard = store[0] / "mine" / "000000.tar"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(LocVLMError, match="another checksum") as error:
        Shards(remote, tmp_path / "cache")[0]
    assert error.value.where == f"{remote}/000000.tar"
    assert not list((tmp_path / "cache").rglob("*.tar"))


def test_workers_fetch_what_they_read(remote, tmp_path, processor):
    source = Source(remote, cache=str(tmp_path / "cache"))
    data = LocVLMDataModule(processor, {"talk": source}, batch_size=2, num_workers=2)
    batches = list(data.train_dataloader())
    assert sum(len(batch["input_ids"]) for batch in batches) == 10


def test_manifests_cannot_name_files_elsewhere(remote, store, tmp_path):
    path = store[0] / "mine" / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["shards"][0]["file"] = "../../evil.tar"
    path.write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="no such file"):
        Shards(remote, tmp_path / "cache")
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize(
    "location",
    [
        "pipe:cat /etc/passwd",
        "pipe://cat /etc/passwd",
        "file:///etc",
        "ftp://host/folder",
        "simplecache::https://host/folder",
        "zip://x.tar::https://host/folder",
        "https://host/a::pipe:ls",
        "memory://folder",
    ],
)
def test_only_object_stores_are_opened(location):
    with pytest.raises(ConfigError, match="shards are not read from") as error:
        find_remote(location, None, MANIFEST)
    assert "s3, gs, https" in error.value.fix


@pytest.mark.parametrize("location", ["shards/mine", "/data/a:b", "C", "./x://y"])
def test_paths_are_paths(location):
    assert find_remote(location, None, MANIFEST) is None


def test_a_folder_with_a_colon_is_a_folder(tmp_path, monkeypatch):
    (tmp_path / "run:1").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_remote("run:1", None, MANIFEST) is None


def test_what_is_missing_is_named(store, tmp_path):
    with pytest.raises(DataError, match="no such file") as error:
        Shards(f"{store[1]}/nothing", tmp_path / "cache")
    assert error.value.where.endswith("/nothing/manifest.json")


def test_a_store_that_does_not_answer_is_asked_three_times(tmp_path):
    with pytest.raises(LocVLMError, match="cannot be downloaded in 3 attempts"):
        Shards("http://127.0.0.1:9/shards", tmp_path / "cache")


def test_a_store_without_its_package_names_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)  # cannot be imported
    with pytest.raises(ConfigError, match="needs another package") as error:
        Shards("s3://bucket/shards", tmp_path / "cache")
    assert error.value.fix == "pip install s3fs"
