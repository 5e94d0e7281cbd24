from functools import partial

import pytest
import torch
import torch.distributed as dist
from torch._dynamo.utils import counters
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore

from locvlm.data.packing import pack
from locvlm.errors import ConfigError
from locvlm.models.lora import add_lora
from locvlm.models.quantization import quantize
from locvlm.training import EncoderModule, LocVLMModule, adamw
from locvlm.training.strategies import (
    FSDP,
    blocks,
    checkpoint_activations,
    compile_blocks,
    mixed_precision,
    rank_part,
    shard,
)
from locvlm.types import Message
from tests.tiny import ask, dialogue, make_model, make_processor, make_sample


@pytest.fixture
def mesh():
    """Of four processes, of which there is only the first; what the others send is made up."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=4)
    yield init_device_mesh("cpu", (4,))
    dist.destroy_process_group()


def module_of(model, **options):
    return LocVLMModule(model, partial(adamw, lr=1e-3), **options)


def packed(model, texts):
    processor = model.processor
    talks = [[*dialogue(), *ask("And?"), Message("assistant", (text,))] for text in texts]
    return pack([processor.encode(make_sample(), talk) for talk in talks], processor.pad_id)


def batch():
    processor = make_processor()
    example = processor.encode(make_sample(), dialogue())
    return {
        name: example[name] if name == "pixel_values" else example[name][None] for name in example
    }


def test_each_block_is_sharded_by_itself_and_all_weights_are(mesh):
    model = make_model()
    plain = {name: weight.shape for name, weight in model.named_parameters()}
    shard(module_of(model), mesh)
    assert len(blocks(model)) == 3 + 2
    sharded = [module for module in model.modules() if isinstance(module, FSDPModule)]
    assert set(sharded) == {model, *blocks(model)}
    for name, weight in model.named_parameters():
        assert isinstance(weight, DTensor), name
        assert weight.shape == plain[name]
        assert len(weight.to_local()) == min(-(-plain[name][0] // 4), plain[name][0])


def test_layers_beside_the_model_are_sharded_too(mesh):
    model = make_model()
    words = {"shape": ["circle"]}
    module = EncoderModule(model, partial(adamw, lr=1e-3), words=words)
    shard(module, mesh)
    assert all(isinstance(weight, DTensor) for weight in module.parameters())


def test_a_model_stays_sharded_from_stage_to_stage(mesh):
    model = make_model()
    shard(module_of(model, trained=["adapter"]), mesh)
    before = dict(model.named_parameters())
    shard(module_of(model), mesh)
    assert all(weight is before[name] for name, weight in model.named_parameters())
    assert all(weight.requires_grad for weight in model.language_model.parameters())


def test_a_frozen_encoder_and_lora_get_no_gradients_beyond_what_is_trained(mesh):
    model = add_lora(make_model(), rank=4, alpha=8)
    module = module_of(model, trained=["adapter", "lora"])
    shard(module, mesh, mixed_precision("bf16-mixed"))
    module.model(**batch()).backward()
    for name, weight in model.named_parameters():
        assert (weight.grad is not None) == weight.requires_grad, name
        assert weight.dtype == torch.float32


def test_weights_of_8_bits_are_refused(mesh):
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not there for this machine")
    model = quantize(make_model(), "8bit")
    with pytest.raises(ConfigError, match=r"cannot be sharded(?s:.*)4bit, or trainer=ddp"):
        shard(module_of(model, trained=["adapter"]), mesh)


def test_weights_of_4_bits_are_sharded_as_bytes(mesh):
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not there for this machine")
    model, plain = (quantize(make_model(hidden_size=64), "4bit") for _ in range(2))
    shard(module_of(add_lora(model, rank=4, alpha=8), trained=["adapter", "lora"]), mesh)
    plain.to("cpu")
    layer = model.language_model.model.layers[1].mlp.up_proj.base_layer
    expected = plain.language_model.model.layers[1].mlp.up_proj.weight
    assert isinstance(layer.weight, DTensor)
    assert layer.weight.dtype == torch.uint8
    own = layer.weight.to_local()
    assert torch.equal(own, expected.data[: len(expected) // 4])


@pytest.mark.parametrize(
    ("precision", "used"), [("32-true", None), ("bf16-true", None), ("bf16-mixed", torch.bfloat16)]
)
def test_gradients_are_averaged_in_float32(precision, used):
    policy = mixed_precision(precision)
    assert (policy.param_dtype, policy.reduce_dtype) == (used, torch.float32)


def test_float16_is_refused():
    with pytest.raises(ConfigError, match=r"16-mixed\n.*trainer.precision\n.*bf16-mixed"):
        mixed_precision("16-mixed")


@pytest.mark.parametrize("trained", [["adapter"], ["encoder", "adapter", "language_model"]])
def test_activations_that_are_computed_again_give_the_same_gradients(trained):
    found = []
    for prepare in (lambda model: model, checkpoint_activations):
        model = prepare(make_model())
        module_of(model, trained=trained)
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, kept=kept: kept.append(tensor.numel()) or tensor, lambda tensor: tensor
        ):
            loss = model(**batch())
        loss.backward()
        grads = {name: w.grad for name, w in model.named_parameters() if w.grad is not None}
        found.append((sum(kept), grads))
    (n_plain, plain), (n_checkpointed, checkpointed) = found
    assert n_checkpointed < 0.5 * n_plain
    assert plain.keys() == checkpointed.keys()
    assert all(torch.equal(plain[name], checkpointed[name]) for name in plain)


def test_a_model_that_computes_activations_again_answers_as_before():
    model = make_model()
    prompt = model.processor.prompt(make_sample(), ask("Where is the red circle?"))
    before = model.generate([prompt], max_new_tokens=8)
    assert checkpoint_activations(model).generate([prompt], max_new_tokens=8) == before


def adapted(model):
    """LoRA and the adapter learn; the rest is frozen."""
    module_of(add_lora(model, rank=4, alpha=8), trained=["adapter", "lora"])
    return model


def whole(model):
    module_of(model, trained=["encoder", "adapter", "language_model"])
    return model


@pytest.mark.slow
@pytest.mark.parametrize("prepare", [whole, adapted])
@pytest.mark.parametrize("again", [lambda model: model, checkpoint_activations])
def test_compiled_blocks_learn_what_others_learn(prepare, again):
    torch._dynamo.reset()
    eager, compiled = prepare(make_model()), prepare(make_model())
    compile_blocks(compiled, "aot_eager")  # all of it but the C++ compiler
    again(compiled)
    for texts in (("red",), ("red", "blue"), ("red", "left " * 30, "blue", "up")):
        found = []
        for model in (eager, compiled):
            model.zero_grad()
            loss = model(**packed(model, texts))
            loss.backward()
            gradients = {n: w.grad for n, w in model.named_parameters() if w.grad is not None}
            found.append((loss.detach(), gradients))
        torch.testing.assert_close(found[1], found[0])
    assert compiled.state_dict().keys() == eager.state_dict().keys()


@pytest.mark.slow
def test_blocks_of_a_kind_are_compiled_once_whatever_a_batch_holds():
    torch._dynamo.reset()
    counters.clear()
    graphs = []
    for n_layers in (2, 4):
        model = whole(make_model(num_hidden_layers=n_layers))
        compile_blocks(model, "eager")
        for texts in (
            ("red", "left " * 30),
            ("blue", "left " * 30, "up"),
            ("red " * 9, "up " * 20),
        ):
            model(**packed(model, texts))
            graphs.append(counters["stats"]["unique_graphs"])
        torch._dynamo.reset()
        counters.clear()
    assert len(set(graphs)) == 1


def test_a_compiled_model_answers_as_before():
    model = make_model()
    prompt = model.processor.prompt(make_sample(), ask("Where is the red circle?"))
    before = model.generate([prompt], max_new_tokens=8)
    assert compile_blocks(model, "eager").generate([prompt], max_new_tokens=8) == before


def test_what_cannot_be_compiled_is_told():
    def fails(*_):
        raise RuntimeError("No working C++ compiler found")

    model = compile_blocks(make_model(), fails)
    with pytest.raises(ConfigError, match=r"(?s)cannot compile here: .*where: compile.*g\+\+"):
        model(**batch())


def test_one_process_has_the_whole_loss():
    assert rank_part(torch.tensor(3.0), torch.tensor(5.0)) == 3.0


@pytest.mark.parametrize(
    ("own", "other", "expected"),
    [
        ((3.0, 6.0), (1.0, 2.0), (3 * 6 + 1 * 2) / 8),
        ((3.0, 0.0), (1.0, 2.0), 1.0),
        ((0.0, 0.0), (0.0, 0.0), 0.0),
    ],
)
def test_the_mean_over_ranks_is_the_mean_over_all_that_is_learned(
    monkeypatch, own, other, expected
):
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    parts = []
    for (loss, weight), (_, others) in ((own, other), (other, own)):
        monkeypatch.setattr(dist, "all_reduce", lambda tensor, n=others: tensor.add_(n))
        parts.append(rank_part(torch.tensor(loss), torch.tensor(weight)))
    assert sum(parts) / 2 == pytest.approx(expected)


def test_replicas_hold_the_same_parts(mesh):
    model = make_model()
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard"))
    shard(module_of(model), mesh)
    for name, weight in model.named_parameters():
        assert weight.placements == (Replicate(), Shard(0)), name
        assert len(weight.to_local()) == -(-len(weight) // 2), name


@pytest.mark.parametrize("replicas", [0, 3])
def test_replicas_that_the_processes_cannot_hold_are_refused(replicas):
    strategy = FSDP(replicas)
    strategy.parallel_devices = [torch.device("cpu")] * 4
    with pytest.raises(ConfigError, match=rf"4 processes cannot hold {replicas} replicas"):
        strategy.setup_environment()
