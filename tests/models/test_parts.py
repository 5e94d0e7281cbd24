from functools import partial

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch.distributed.device_mesh import init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore

from locvlm.errors import CheckpointError
from locvlm.models import Adapter, LocVLM, TimmEncoder
from locvlm.models.language import pretrained
from locvlm.models.parts import empty
from locvlm.training import LocVLMModule, adamw
from locvlm.training.strategies import shard
from tests.tiny import ENCODER, dialogue, make_model, make_processor, make_sample


@pytest.fixture(params=["50GB", "10KB"])
def folder(request, tmp_path):
    """Of a language model, in one file and in many."""
    make_model().language_model.save_pretrained(tmp_path / "llm", max_shard_size=request.param)
    return tmp_path / "llm"


@pytest.fixture
def group(request, tmp_path):
    """As many processes as asked for, of which there is only the first."""

    def begin(world_size):
        if world_size == 1:
            store = dist.FileStore(str(tmp_path / "store"), 1)
            dist.init_process_group("gloo", store=store, rank=0, world_size=1)
        else:
            dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=world_size)
        request.addfinalizer(dist.destroy_process_group)
        return init_device_mesh("cpu", (world_size,))

    return begin


def build(make, folder):
    torch.manual_seed(0)
    encoder = TimmEncoder("vit_tiny_patch16_224", 32, 8, options=ENCODER)
    return LocVLM.build(encoder, Adapter, partial(make, str(folder)), make_processor())


def sharded(model, mesh):
    shard(LocVLMModule(model, partial(adamw, lr=1e-3)), mesh)
    return model


def test_a_model_read_in_parts_computes_as_one_that_was_loaded(group, folder):
    model = build(empty, folder)
    assert all(weight.is_meta for weight in model.language_model.parameters())
    model = sharded(model, group(1))
    example = make_processor().encode(make_sample(), dialogue())
    batch = {n: v if n == "pixel_values" else v[None] for n, v in example.items()}
    loss = model(**batch)
    torch.testing.assert_close(loss, build(pretrained, folder)(**batch))
    loss.backward()


def test_each_process_holds_and_reads_its_own_rows_only(group, folder):
    model = sharded(build(empty, folder), group(4))
    whole = build(pretrained, folder).language_model.state_dict()
    for name, weight in model.language_model.named_parameters():
        own = weight.to_local()
        assert len(own) == -(-len(whole[name]) // 4)
        assert torch.equal(own, whole[name][: len(own)]), name


def test_a_missing_weight_is_named(group, folder):
    for path in folder.glob("*.safetensors"):
        tensors = load_file(path)
        tensors.pop("model.norm.weight", None)
        save_file(tensors, path)
    with pytest.raises(CheckpointError, match=r"it lacks model\.norm\.weight"):
        sharded(build(empty, folder), group(4))


def test_a_weight_of_another_shape_is_named(group, folder):
    for path in folder.glob("*.safetensors"):
        tensors = load_file(path)
        if "model.norm.weight" in tensors:
            save_file(tensors | {"model.norm.weight": torch.ones(3)}, path)
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight is \(3,\), the model's is"):
        sharded(build(empty, folder), group(4))


def test_a_head_that_is_the_table_of_embeddings_is_loaded_whole(tmp_path):
    model = make_model(tie_word_embeddings=True).language_model
    model.save_pretrained(tmp_path)
    assert not any(weight.is_meta for weight in empty(str(tmp_path)).parameters())


def test_a_tokenizer_of_more_tokens_is_refused(folder):
    with pytest.raises(CheckpointError, match="writes 9999 token ids"):
        empty(str(folder), vocab_size=9999)
