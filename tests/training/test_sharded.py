import io
import pickle
from functools import partial

import pytest
import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import get_model_state_dict, get_optimizer_state_dict
from torch.distributed.device_mesh import init_device_mesh

from locvlm.errors import CheckpointError
from locvlm.training import LocVLMModule, adamw
from locvlm.training.sharded import _Planner, load_sharded, save_sharded
from locvlm.training.strategies import shard
from tests.tiny import make_model


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.fixture
def mesh(tmp_path):
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


@pytest.fixture
def trained(mesh):
    """Makes sharded modules with an optimizer that has made a step."""

    def make(seed):
        module = LocVLMModule(make_model(seed=seed), partial(adamw, lr=1e-3 * (seed + 1)))
        shard(module, mesh)
        optimizer = module.configure_optimizers()
        for parameter in module.model.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        return module, optimizer

    return make


def save(module, optimizer, folder):
    checkpoint = {
        "state_dict": get_model_state_dict(module),
        "optimizer_states": [get_optimizer_state_dict(module, optimizer)],
        "global_step": 7,
    }
    save_sharded(checkpoint, folder)


def test_weights_and_optimizer_come_back_and_an_older_checkpoint_is_replaced(trained, tmp_path):
    module, optimizer = trained(0)
    folder = tmp_path / "last.ckpt"
    save(module, optimizer, folder)
    (folder / "left").write_text("of the older one")
    save(module, optimizer, folder)
    assert {path.name for path in tmp_path.iterdir()} == {"last.ckpt", "store"}
    assert not (folder / "left").exists()
    other, others = trained(1)
    rest = load_sharded(folder, other, [others])
    assert rest["global_step"] == 7
    for name, tensor in get_model_state_dict(module).items():
        assert torch.equal(other.state_dict()[name].full_tensor(), tensor.full_tensor())
    assert others.param_groups[0]["lr"] == 1e-3
    ours, theirs = (one.state[one.param_groups[0]["params"][0]] for one in (optimizer, others))
    assert torch.equal(ours["exp_avg"].full_tensor(), theirs["exp_avg"].full_tensor())


def test_the_file_of_a_run_on_one_device_is_replaced(trained, tmp_path):
    (tmp_path / "last.ckpt").write_text("weights")
    save(*trained(0), tmp_path / "last.ckpt")
    assert (tmp_path / "last.ckpt").is_dir()


@pytest.mark.parametrize("name", [".metadata", "meta.pt"])
def test_a_checkpoint_runs_nothing(trained, tmp_path, name):
    module, optimizer = trained(0)
    save(module, optimizer, tmp_path / "last.ckpt")
    path = tmp_path / "last.ckpt" / name
    if name == ".metadata":
        path.write_bytes(pickle.dumps(Hostile(tmp_path / "written")))
    else:
        torch.save(Hostile(tmp_path / "written"), path)
    with pytest.raises((CheckpointError, pickle.UnpicklingError)):
        load_sharded(tmp_path / "last.ckpt", module, [optimizer])
    assert not (tmp_path / "written").exists()


def test_values_beside_tensors_run_nothing(tmp_path):
    value = io.BytesIO()
    torch.save(Hostile(tmp_path / "written"), value)
    value.seek(0)
    with pytest.raises(pickle.UnpicklingError):
        _Planner().load_bytes(None, value)
    assert not (tmp_path / "written").exists()


def test_a_folder_of_something_else_is_refused(trained, tmp_path):
    module, optimizer = trained(0)
    with pytest.raises(CheckpointError, match="no checkpoint of fsdp"):
        load_sharded(tmp_path, module, [optimizer])
