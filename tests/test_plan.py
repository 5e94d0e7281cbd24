import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from transformers import LlamaConfig

from locvlm.errors import ConfigError
from locvlm.plan import main, plan

PAPER = ("+experiment=binned224", "model=locvlm_l", "trainer.devices=8")


def composed(*overrides):
    GlobalHydra.instance().clear()
    with initialize_config_module("locvlm.conf", version_base="1.3"):
        return compose("plan", overrides=list(overrides))


def planned(*overrides):
    return plan(composed(*overrides))


@pytest.mark.slow
def test_the_papers_model_is_planned_without_its_weights():
    [align, instruct] = planned(*PAPER)
    # Of the published checkpoints: 6,738,415,616 weights in Vicuna-7B, 303 million in the encoder.
    assert instruct.parameters["language_model"] == (6_738_415_616, 6_738_415_616)
    assert instruct.parameters["encoder"] == (303_507_456, 0)
    assert align.parameters["language_model"] == (6_738_415_616, 0)
    assert align.parameters["adapter"] == (20_979_712, 20_979_712)
    # 64 examples on each of 8 GPUs, 10 epochs of 665,298.
    assert (instruct.steps, instruct.total_steps) == (1300, 13000)
    assert instruct.tokens == 665_298 * (576 + 250)
    # 6 FLOPs per weight and token, and attention on top.
    dense = 6 * 6_738_415_616 * (576 + 250) * 64 * 8 * 13000
    assert 1.0 < instruct.flops / dense < 1.1
    assert instruct.hours == pytest.approx(instruct.flops / (8 * 312e12 * 0.4) / 3600)


@pytest.mark.slow
def test_the_small_model_is_planned_for_a_consumer_gpu():
    align, instruct = planned("+experiment=small", "gpu=RTX 4090")
    # Of the published checkpoint; its head is its embeddings, which count once.
    assert instruct.parameters["language_model"] == (494_032_768, 494_032_768)
    assert instruct.parameters["encoder"] == (85_843_200, 0)  # without SigLIP's pooling
    assert (align.steps, instruct.steps) == (2181, 5198)  # batches of 256 and 128 in 16 parts
    assert instruct.memory.peak(accumulates=True) < 17 * 2**30
    assert 4 < align.hours + instruct.hours < 6


@pytest.mark.slow
def test_lora_learns_little_of_the_model():
    [one] = planned("model=locvlm_l", "recipe=llava_v1_5_lora", "run=[instruct]")
    every, learning = one.parameters["language_model"]
    assert learning == 319_815_680  # rank 128 in all linear layers
    assert every == 6_738_415_616 + learning
    assert one.memory.optimizer < one.memory.weights


@pytest.fixture
def folder(tmp_path):
    """Folder with the config.json of a small language model, and no weights."""
    LlamaConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2
    ).save_pretrained(tmp_path)
    return tmp_path


def test_another_language_model_is_known_by_its_folder(folder):
    [one] = planned("model=locvlm_b", f"model.language_model.path={folder}", "run=[instruct]")
    layers = 2 * (4 * 64**2 + 3 * 64 * 128 + 2 * 64)
    assert one.parameters["language_model"] == (2 * 32000 * 64 + layers + 64,) * 2


def test_quantized_weights_take_less(folder):
    choices = ("model=locvlm_l", f"model.language_model.path={folder}", "run=[instruct]")
    [whole] = planned(*choices, "recipe=llava_v1_5_lora", "trainer.precision=bf16-true")
    [small] = planned(*choices, "recipe=llava_v1_5_qlora", "trainer.precision=bf16-true")
    layers = 2 * (4 * 64**2 + 3 * 64 * 128)
    assert whole.memory.weights - small.memory.weights == round(layers * (2 - 0.5 - 1 / 64))
    assert small.memory.optimizer < whole.memory.optimizer  # 8-bit moments


def test_what_a_training_takes_that_costs_no_memory_is_taken_too():
    assert composed("+experiment=locvlm_l", "trainer=fsdp", "compile=true").compile is True


def test_the_tiny_models_stages_are_planned_with_its_own_tokenizer():
    encoder, pairs, instruct = planned("data.batch_size=4")
    assert encoder.tokens == 0
    number = 2 * 665_298  # of bytes, for each of 64 patches and 128 numbers
    assert instruct.features == number * 64 * 128
    assert encoder.memory.logits == 0
    assert (pairs.total_steps, instruct.total_steps) == (600, 1000)
    assert pairs.parameters["language_model"][1] > 0


def test_ranks_send_copies_of_gradients_or_share_the_weights():
    [alone] = planned("run=[instruct]")
    [ddp] = planned("run=[instruct]", "trainer.devices=4")
    [fsdp] = planned(
        "run=[instruct]", "trainer.devices=4", "trainer.strategy={_target_: locvlm.training.FSDP}"
    )
    assert alone.memory.buckets == 0
    assert ddp.memory.buckets == ddp.memory.gradients
    assert fsdp.memory.optimizer < ddp.memory.optimizer / 3


def test_replicas_hold_larger_parts_on_each_device():
    choices = ("run=[instruct]", "trainer=fsdp", "trainer.num_nodes=2")
    [two] = planned(*choices, "trainer.devices=4", "trainer.strategy.replicas=2")
    [one] = planned(*choices, "trainer.devices=2")
    assert two.memory == one.memory  # four devices share a set of weights


def test_gradients_stay_where_they_are_added_up():
    choices = ("run=[instruct]", "data.epoch_length=64")
    one, many = (planned(*choices, f"++trainer.accumulate_grad_batches={n}") for n in (1, 2))
    assert (one[0].steps, many[0].steps) == (2, 1)
    assert (one[0].accumulates, many[0].accumulates) == (False, True)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.devices=auto"], r"how many devices are 'auto'(?s:.*)trainer.devices=8"),
        (["trainer=fsdp", "trainer.devices=4", "trainer.strategy.replicas=3"], "4 processes can"),
        (["gpu=H10"], r"no GPU called 'H10'(?s:.*)did you mean 'H100'"),
        (["run=[instuct]"], r"no stage named instuct"),
        (["+stages.instruct.optimizer.lrr=1"], "takes no 'lrr'"),
        (
            ["model=locvlm_l", "model.language_model.path=someone/else"],
            r"architecture of someone/else is not known(?s:.*)config\.json",
        ),
    ],
)
def test_mistakes_get_one_message(overrides, message):
    with pytest.raises(ConfigError, match=message):
        planned(*overrides)


def test_the_command_prints_tables(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["plan", "run=[instruct]", "peak=1e15", "trainer.devices=2"])
    GlobalHydra.instance().clear()
    main()
    shown = capsys.readouterr().out
    for words in (
        "Parameters",
        "Memory of one device",
        "at most",
        "steps per epoch",
        "features GiB",
    ):
        assert words in shown
    assert list(tmp_path.iterdir()) == []
