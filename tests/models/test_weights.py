import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from locvlm.errors import CheckpointError
from locvlm.models.weights import fill, own_tensors, read_folder, read_weights

TENSORS = {"weight": torch.arange(6.0).view(2, 3), "bias": torch.ones(2)}


def same(found):
    return found.keys() == TENSORS.keys() and all(torch.equal(found[k], TENSORS[k]) for k in found)


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


def test_a_model_gets_weights_in_the_type_that_they_have():
    layer = nn.Linear(3, 2)
    fill(own_tensors(layer), TENSORS | {"weight": TENSORS["weight"].half()}, "here")
    assert torch.equal(layer.weight, TENSORS["weight"].half())
    assert (layer.weight.dtype, layer.bias.dtype) == (torch.float16, torch.float32)


def test_all_differences_are_named():
    found = {"weight": torch.zeros(3, 3), "scale": torch.tensor(1.0)}
    with pytest.raises(CheckpointError) as error:
        fill(own_tensors(nn.Linear(3, 2)), found, "there")
    for line in ("missing: bias 2", "unknown: scale scalar", "weight is 3x3, the model's is 2x3"):
        assert line in str(error.value)
    assert "where: there" in str(error.value)


def test_tied_tensors_are_listed_once():
    pair = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    pair[1].weight = pair[0].weight
    assert list(own_tensors(pair)) == ["0.weight", "0.bias", "1.bias"]
