import json
import pickle
import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from locvlm.errors import CheckpointError
from locvlm.models.files import read, read_folder, read_weights, stored_weights, write_weights
from tests.tiny import make_model

TENSORS = {"weight": torch.arange(6.0).view(2, 3), "bias": torch.ones(2)}


def same(found):
    return found.keys() == TENSORS.keys() and all(
        torch.equal(read(found[k]), TENSORS[k]) for k in found
    )


def write(folder, name, tensors):
    if name.endswith(".safetensors"):
        save_file(tensors, folder / name)
    else:
        torch.save(tensors, folder / name)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_holds_its_weights_in_one_file(tmp_path, name):
    write(tmp_path, name, TENSORS)
    assert same(read_folder(tmp_path))


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_or_in_several_with_an_index(tmp_path, name):
    stem, _, ending = name.partition(".")
    shards = {key: f"{stem}-0000{n}-of-2.{ending}" for n, key in enumerate(TENSORS, 1)}
    for key, shard in shards.items():
        write(tmp_path, shard, {key: TENSORS[key]})
    (tmp_path / f"{name}.index.json").write_text(json.dumps({"weight_map": shards}))
    assert same(read_folder(tmp_path))


def test_an_index_does_not_lead_out_of_its_folder(tmp_path):
    write(tmp_path, "other.safetensors", TENSORS)
    inside = tmp_path / "model"
    inside.mkdir()
    index = {"weight_map": {"weight": "../other.safetensors"}}
    (inside / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"cannot read(?s:.*)model/other.safetensors"):
        read_folder(inside)


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"neither model.safetensors nor pytorch_model.bin"):
        read_folder(tmp_path)


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_what_a_pickle_would_run_is_not_run(tmp_path):
    torch.save({"weight": Trap(tmp_path / "sprung")}, tmp_path / "a.bin")
    (tmp_path / "b.bin").write_bytes(
        pickle.dumps({"weight": Trap(tmp_path / "sprung")}, protocol=2)
    )
    for name in ("a.bin", "b.bin"):
        with pytest.raises(CheckpointError, match="what holds more than tensors is not read"):
            read_weights(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("value", [[1, 2], {"step": 3}])
def test_a_file_without_named_tensors_is_refused(tmp_path, value):
    torch.save(value, tmp_path / "a.bin")
    with pytest.raises(CheckpointError, match="holds no named tensors"):
        read_weights(tmp_path / "a.bin")


def test_of_a_tensor_no_more_is_read_than_is_asked_for(tmp_path):
    for name in ("model.safetensors", "pytorch_model.bin"):
        write(tmp_path, name, TENSORS | {"scale": torch.tensor(2.0).bfloat16()})
        found = stored_weights(tmp_path / name)
        assert not any(isinstance(one, torch.Tensor) for one in found.values())
        assert (found["weight"].shape, found["weight"].dtype) == ((2, 3), torch.float32)
        assert torch.equal(read(found["weight"], slice(1, 2)), TENSORS["weight"][1:])
        assert (found["scale"].shape, found["scale"].dtype) == ((), torch.bfloat16)
        assert read(found["scale"]) == 2.0


def test_a_file_of_an_old_torch_is_read_as_a_whole(tmp_path):
    torch.save(TENSORS, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    assert same(read_folder(tmp_path))


def test_a_file_that_goes_between_a_look_and_its_use_is_named(tmp_path):
    write(tmp_path, "model.safetensors", TENSORS)
    found = read_folder(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"cannot read(?s:.*)model\.safetensors"):
        read(found["weight"])


def test_few_tensors_are_written_into_one_file(tmp_path):
    write_weights(iter(TENSORS.items()), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    assert same(read_folder(tmp_path))


def test_many_tensors_are_written_into_files_of_which_one_is_held_at_a_time(tmp_path):
    """24 floats each: a file of 200 bytes takes two, and the one that is too large has its own."""
    alive = []

    def tensors():
        for n in range(5):
            tensor = torch.full((60 if n == 2 else 24,), float(n))
            alive.append(weakref.ref(tensor))
            yield f"t{n}", tensor
            del tensor
            assert sum(one() is not None for one in alive) <= 2

    write_weights(tensors(), tmp_path, limit=200)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    files = [f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]
    assert index["metadata"]["total_size"] == (4 * 24 + 60) * 4
    assert [index["weight_map"][f"t{n}"] for n in range(5)] == [files[n] for n in (0, 0, 1, 2, 2)]
    assert {path.name for path in tmp_path.iterdir()} == {*files, "model.safetensors.index.json"}
    assert {k: read(t).mean() for k, t in read_folder(tmp_path).items()} == {
        f"t{n}": n for n in range(5)
    }


def test_transformers_reads_what_is_written_into_several_files(tmp_path):
    model = make_model().language_model
    write_weights(model.state_dict().items(), tmp_path, limit=20_000)
    model.config.save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert all(torch.equal(again.state_dict()[k], t) for k, t in model.state_dict().items())
