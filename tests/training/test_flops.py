import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from locvlm.data.collate import collate
from locvlm.data.packing import pack
from locvlm.models.lora import add_lora
from locvlm.training.flops import Cost, Work, cost, peak_flops, work
from locvlm.training.module import train_only
from locvlm.types import Message, Sample
from tests.tiny import dialogue, make_model, make_processor, make_sample

EXAMPLES = [
    ("red", dialogue()),
    ("blue", [*dialogue(), *dialogue()]),
    ("green", [*dialogue(), *dialogue(), *dialogue()]),
]


def examples():
    processor = make_processor()
    return [processor.encode(make_sample(color), messages) for color, messages in EXAMPLES]


def batch_of(equal, make=collate):
    chosen = examples()
    return make([chosen[1]] * 2 if equal else chosen, pad_id=0)


def written_out(**options):
    """A model whose attention is matrix products, for torch's counter knows no other on a CPU."""
    model = make_model(attention="eager", **options)
    for block in model.encoder.vit.blocks:
        block.attn.fused_attn = False
    return model


def counted(model, batch):
    """What torch counts in a forward and, where something learns, a backward pass."""
    with FlopCounterMode(display=False) as counter:
        loss = model(**batch)
        if loss.requires_grad:
            loss.backward()
    return counter.get_total_flops()


def test_the_work_of_a_batch_is_what_its_examples_hold():
    lengths = [len(example["input_ids"]) for example in examples()]
    learned = sum(int((example["labels"] >= 0).sum()) for example in examples())
    squares = sum(length**2 for length in lengths)
    expected = Work(3, 3, sum(lengths), squares, learned)
    assert Work(*work(batch_of(equal=False)).tolist()) == expected
    assert Work(*work(batch_of(equal=False, make=pack)).tolist()) == expected


def test_costs_add_up():
    assert Cost(1000, 100, 10, 1).flops(Work(9, 2, 3, 4, 5)) == 2345


@pytest.mark.parametrize(
    "trained",
    [
        [],
        ["encoder"],
        ["adapter"],
        ["language_model"],
        ["adapter", "language_model"],
        ["encoder", "adapter", "language_model"],
    ],
)
@pytest.mark.parametrize("layers", [1, 2])
def test_the_count_is_torchs_own_to_one_percent(trained, layers):
    model = written_out(layers=layers)
    train_only(model, trained)
    batch = batch_of(equal=True)
    ours = cost(model).flops(Work(*work(batch).tolist()))
    assert ours == pytest.approx(counted(model, batch), rel=0.01)


@pytest.mark.parametrize("trained", [["lora"], ["adapter", "lora"]])
def test_frozen_weights_beneath_lora_need_no_gradients_of_their_own(trained):
    model = add_lora(written_out(), rank=4, alpha=8)
    train_only(model, trained)
    batch = batch_of(equal=True)
    ours = cost(model).flops(Work(*work(batch).tolist()))
    assert ours == pytest.approx(counted(model, batch), rel=0.04)  # first layers have no input's


def test_heads_that_share_keys_cost_as_many_pairs():
    options = {"num_attention_heads": 4, "num_key_value_heads": 2}
    model = written_out(**options)
    train_only(model, ["language_model"])
    batch = batch_of(equal=True)
    ours = cost(model).flops(Work(*work(batch).tolist()))
    assert ours == pytest.approx(counted(model, batch), rel=0.01)


def test_packing_saves_the_pairs_between_examples():
    padded = Work(*work(batch_of(equal=False)).tolist())
    assert padded.pairs < padded.tokens**2 / 2


def test_a_conversation_without_an_image_costs_no_image():
    said = [Message("user", ("Is there a blue square?",)), Message("assistant", ("Yes.",))]
    text = make_processor().encode(Sample("text", "test"), said)
    assert work(collate([text], pad_id=0))[1] == 0


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA H200 NVL", 835e12),
        ("NVIDIA GH200 480GB", 989e12),
        ("NVIDIA GeForce RTX 4090 D", 147e12),
        ("NVIDIA GeForce RTX 3090 Ti", 80e12),
        ("NVIDIA A100-SXM4-80GB MIG 3g.40gb", None),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA GeForce RTX 4090", 165e12),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA RTX A1000", None),
        ("cpu", None),
    ],
)
def test_devices_are_told_by_their_names(name, peak):
    assert peak_flops(name) == peak


def test_quantized_layers_count_with_all_their_weights():
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not there for this machine")
    from locvlm.models.quantization import quantize

    options = {"hidden_size": 64, "intermediate_size": 128}
    whole, quantized = make_model(**options), quantize(make_model(**options), "4bit").to("cpu")
    whole.requires_grad_(False)
    quantized.requires_grad_(False)
    assert cost(quantized) == cost(whole)


def test_nothing_waits_for_the_count(monkeypatch):
    batch = batch_of(equal=False, make=pack)
    monkeypatch.setattr(torch.Tensor, "item", None)
    monkeypatch.setattr(torch.Tensor, "__bool__", None)
    monkeypatch.setattr(torch.Tensor, "__int__", None)
    assert work(batch).shape == (5,)
