import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from locvlm import LocVLM
from locvlm.errors import CheckpointError, ConfigError, LocVLMError
from locvlm.models.checkpoint import load_processor, load_weights
from locvlm.models.dtypes import to_dtype
from tests.tiny import ask, make_model, make_processor, make_sample


@pytest.fixture
def folder(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def prompts_of(model):
    return [
        model.processor.prompt(make_sample(color), ask("Where is the red circle?"))
        for color in ("red", "blue")
    ]


def edit(path, change):
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def test_a_saved_model_says_the_same(model, folder):
    loaded = LocVLM.from_pretrained(folder)
    assert not loaded.training
    assert loaded.generate(prompts_of(loaded), max_new_tokens=12) == model.generate(
        prompts_of(model), max_new_tokens=12
    )
    for (name, ours), (other, theirs) in zip(
        model.state_dict().items(), loaded.state_dict().items(), strict=True
    ):
        assert name == other
        assert torch.equal(ours, theirs)


def test_tied_weights_are_stored_once_and_tied_again(processor, tmp_path):
    model = make_model(processor, tie_word_embeddings=True)
    model.save_pretrained(tmp_path / "model")
    names = load_file(tmp_path / "model" / "model.safetensors").keys()
    assert "language_model.lm_head.weight" not in names
    loaded = LocVLM.from_pretrained(tmp_path / "model").language_model
    assert loaded.lm_head.weight is loaded.model.embed_tokens.weight
    assert torch.equal(loaded.lm_head.weight, model.language_model.lm_head.weight)


def test_the_type_of_the_weights_is_kept(processor, tmp_path):
    model = make_model(processor)
    model.language_model.bfloat16()
    model.save_pretrained(tmp_path / "model")
    loaded = LocVLM.from_pretrained(tmp_path / "model")
    assert loaded.language_model.dtype == torch.bfloat16
    assert loaded.adapter.net[0].weight.dtype == torch.float32


@pytest.mark.parametrize("dtype", ["bfloat16", torch.float16])
def test_a_model_is_loaded_in_another_type_but_for_what_it_computes(model, folder, dtype):
    found = LocVLM.from_pretrained(folder, dtype=dtype)
    wanted = to_dtype(dtype, "dtype")
    assert {weight.dtype for weight in found.parameters()} == {wanted}
    assert {buffer.dtype for buffer in found.language_model.buffers()} == {torch.float32}
    rounded = model.adapter.state_dict()
    for name, weight in found.adapter.state_dict().items():
        assert torch.equal(weight, rounded[name].to(wanted))


def test_a_type_that_no_model_has_is_refused(folder):
    with pytest.raises(ConfigError, match="cannot be 'int4'"):
        LocVLM.from_pretrained(folder, dtype="int4")


def test_another_architecture_and_adapter_are_kept(processor, tmp_path):
    make_model(processor, layers=2, num_hidden_layers=1).save_pretrained(tmp_path / "model")
    loaded = LocVLM.from_pretrained(tmp_path / "model")
    assert loaded.adapter.layers == 2
    assert loaded.language_model.config.num_hidden_layers == 1


def test_an_older_model_is_replaced(model, folder, processor):
    make_model(processor, seed=1).save_pretrained(folder)
    loaded = LocVLM.from_pretrained(folder)
    assert not torch.equal(loaded.adapter.net[0].weight, model.adapter.net[0].weight)


def test_whoever_may_read_the_config_may_read_the_weights(folder):
    config, weights = (folder / name for name in ("config.json", "model.safetensors"))
    assert weights.stat().st_mode == config.stat().st_mode


def test_a_folder_of_something_else_is_not_replaced(model, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(LocVLMError, match="would replace a folder without config.json"):
        model.save_pretrained(tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_a_failed_save_leaves_the_older_model(model, folder, monkeypatch):
    before = (folder / "model.safetensors").read_bytes()
    monkeypatch.setattr(model.processor, "save", lambda folder: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.save_pretrained(folder)
    assert (folder / "model.safetensors").read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("name", "message"), [("nowhere", "no such folder"), ("empty", "no config.json here")]
)
def test_what_is_no_model_folder_is_refused(tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=rf"(?s){message}.*runs/<name>/model"):
        LocVLM.from_pretrained(tmp_path / name)


@pytest.mark.parametrize("load", [LocVLM.from_pretrained, load_processor])
def test_in_the_folder_of_a_run_its_model_is_named(folder, load):
    with pytest.raises(CheckpointError, match=f"no config.json here(?s:.*)fix:   give {folder}$"):
        load(folder.parent)


def test_a_model_of_transformers_is_named(model, tmp_path):
    model.language_model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="another kind: llama, of transformers"):
        LocVLM.from_pretrained(tmp_path)


def test_missing_keys_are_named_with_their_shapes(folder):
    path = folder / "model.safetensors"
    weights = load_file(path)
    del weights["adapter.net.0.bias"]
    save_file(weights, path)
    with pytest.raises(CheckpointError, match=r"missing: adapter.net.0.bias 32"):
        LocVLM.from_pretrained(folder)


def test_unknown_keys_are_named(folder):
    path = folder / "model.safetensors"
    save_file(load_file(path) | {"lora.weight": torch.zeros(2, 3)}, path)
    with pytest.raises(CheckpointError, match=r"unknown: lora.weight 2x3"):
        LocVLM.from_pretrained(folder)


def test_other_shapes_are_named(folder, processor):
    with pytest.raises(CheckpointError) as error:
        load_weights(make_model(processor, intermediate_size=80), folder)
    assert "mlp.gate_proj.weight is 64x32, the model's is 80x32" in str(error.value)


def test_many_differences_are_counted(folder, processor):
    with pytest.raises(CheckpointError, match=r"and \d+ more"):
        load_weights(make_model(processor, num_hidden_layers=6), folder)


def test_load_weights_gives_another_model_the_same_weights(model, folder, processor):
    other = make_model(processor, seed=1)
    load_weights(other, folder)
    assert torch.equal(other.adapter.net[0].weight, model.adapter.net[0].weight)


def test_weights_for_other_tokens_are_refused(folder):
    with pytest.raises(CheckpointError, match=r"another one: \d+ of \d+ tokens differ, such as '"):
        load_weights(make_model(make_processor(bins=64)), folder)


def test_a_cut_weights_file_is_refused(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="cannot read these weights"):
        LocVLM.from_pretrained(folder)


def test_malformed_json_is_refused(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="malformed JSON"):
        LocVLM.from_pretrained(folder)


def test_a_later_format_is_refused(folder):
    edit(folder / "config.json", lambda config: config.update(format=2))
    with pytest.raises(CheckpointError, match="format 2, this version reads 1"):
        LocVLM.from_pretrained(folder)


def test_a_config_that_names_foreign_code_is_refused(folder):
    edit(
        folder / "config.json",
        lambda config: config["encoder"].update({"_target_": "os.system", "command": "true"}),
    )
    with pytest.raises(CheckpointError, match=r"must not name 'os.system'"):
        LocVLM.from_pretrained(folder)


def test_pickles_are_never_read(folder, tmp_path):
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "sprung",)

    (folder / "model.safetensors").write_bytes(pickle.dumps({"adapter.weight": Trap()}))
    with pytest.raises(CheckpointError):
        LocVLM.from_pretrained(folder)
    assert not (tmp_path / "sprung").exists()
