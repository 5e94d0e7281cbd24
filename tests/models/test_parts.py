import json
from functools import partial
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch.distributed.device_mesh import init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore

from locvlm.errors import CheckpointError
from locvlm.models import Adapter, LocVLM, TimmEncoder
from locvlm.models.checkpoint import load_weights
from locvlm.models.language import fresh, pretrained
from locvlm.models.lora import add_lora, fingerprint, lora_parameters
from locvlm.models.parts import empty, read_parts, undrawn
from locvlm.models.quantization import quantize
from locvlm.training import LocVLMModule, adamw
from locvlm.training.strategies import shard
from tests.tiny import ENCODER, LLAMA, dialogue, make_model, make_processor, make_sample


def to_bin(folder):
    """Makes of a folder of safetensors one as `torch.save` wrote them, with its index."""
    names = {}
    for path in folder.glob("*.safetensors"):
        new = path.name.replace("model", "pytorch_model").replace("safetensors", "bin")
        tensors = load_file(path)
        torch.save(tensors, folder / new)
        names |= dict.fromkeys(tensors, new)
        path.unlink()
    index = folder / "model.safetensors.index.json"
    if index.exists():
        index.unlink()
        new = folder / "pytorch_model.bin.index.json"
        new.write_text(json.dumps({"metadata": {}, "weight_map": names}))


@pytest.fixture(params=["50GB", "10KB"])
def folder(request, tmp_path):
    """Of a language model, in one file and in many."""
    make_model().language_model.save_pretrained(tmp_path / "llm", max_shard_size=request.param)
    return tmp_path / "llm"


@pytest.fixture(params=["one file", "files", "bin", "bins", "tied", "hub"])
def path(request, tmp_path, monkeypatch):
    """Of a language model, as people have them: a folder of any kind, or a hub id."""
    model = make_model(tie_word_embeddings=request.param == "tied").language_model
    target = tmp_path / "llm"
    if request.param == "hub":
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
        target = tmp_path / "models--us--tiny" / "snapshots" / "0123"
    size = "10KB" if request.param in ("files", "bins") else "50GB"
    model.save_pretrained(target, max_shard_size=size)
    if request.param in ("bin", "bins"):
        to_bin(target)
    if request.param != "hub":
        return str(target)
    refs = tmp_path / "models--us--tiny" / "refs"
    refs.mkdir()
    (refs / "main").write_text("0123")
    return "us/tiny"


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


def build(make, path):
    torch.manual_seed(0)
    encoder = TimmEncoder("vit_tiny_patch16_224", 32, 8, options=ENCODER)
    return LocVLM.build(encoder, Adapter, partial(make, str(path)), make_processor())


def sharded(model, mesh):
    shard(LocVLMModule(model, partial(adamw, lr=1e-3), trained=["adapter"]), mesh)
    return model


def batch():
    example = make_processor().encode(make_sample(), dialogue())
    return {n: v if n == "pixel_values" else v[None] for n, v in example.items()}


def check_holds_nothing(model):
    assert all(weight.is_meta for weight in model.language_model.state_dict().values())


def check_own_rows(model, whole):
    """Each tensor holds the first of four parts of what the other model has."""
    whole = dict(whole.language_model.named_parameters())
    parts = dict(model.language_model.named_parameters())
    assert parts.keys() == whole.keys()
    for name, weight in parts.items():
        own = weight.to_local()
        assert len(own) == min(-(-len(whole[name]) // 4), len(whole[name]))
        assert torch.equal(own, whole[name][: len(own)]), name
        assert own.dtype == whole[name].dtype


def test_a_model_read_in_parts_computes_as_one_that_was_loaded(group, path):
    model = build(empty, path)
    check_holds_nothing(model)
    model = sharded(model, group(1))
    loss = model(**batch())
    torch.testing.assert_close(loss, build(pretrained, path)(**batch()))
    loss.backward()


def test_so_does_one_that_is_read_without_being_sharded(path):
    model = build(empty, path)
    read_parts(model)
    assert torch.equal(model(**batch()), build(pretrained, path)(**batch()))


def test_each_process_holds_and_reads_its_own_rows_only(group, path):
    model = build(empty, path)
    check_holds_nothing(model)
    check_own_rows(sharded(model, group(4)), build(pretrained, path))


def test_a_head_that_is_the_table_of_embeddings_stays_it(group, tmp_path):
    make_model(tie_word_embeddings=True).language_model.save_pretrained(tmp_path)
    language_model = sharded(build(empty, tmp_path), group(1)).language_model
    assert language_model.lm_head.weight is language_model.model.embed_tokens.weight
    assert "lm_head.weight" not in dict(language_model.named_parameters())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_lora_begins_alike_before_and_after_its_model_is_read(group, folder, dtype):
    plain, parts = (
        add_lora(build(partial(make, dtype=dtype), folder), rank=4, alpha=8)
        for make in (pretrained, empty)
    )
    assert all(weight.is_meta != (".lora_" in n) for n, weight in named(parts.language_model))
    for name, weight in lora_parameters(plain).items():
        assert torch.equal(weight, lora_parameters(parts)[name])
        assert weight.dtype == torch.float32
        assert weight.any() == ("lora_A" in name)
    assert fingerprint(parts) == fingerprint(plain)
    parts = sharded(parts, group(4))
    check_own_rows(parts, plain)


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])  # the latter has biases
def test_a_model_quantized_in_parts_is_one_that_was_quantized_whole(group, tmp_path, architecture):
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not there for this machine")
    saved = make_model(architecture=architecture, hidden_size=64).language_model
    saved.save_pretrained(tmp_path / "llm")
    whole, parts = (
        add_lora(quantize(build(make, tmp_path / "llm"), "4bit"), rank=4, alpha=8)
        for make in (pretrained, empty)
    )
    whole.to("cpu")
    parts = sharded(parts, group(1))
    for model in (whole, parts):
        for name, weight in lora_parameters(model).items():
            with torch.no_grad():
                weight.fill_(0.01 if "lora_A" in name else 0.02)
    assert fingerprint(parts) == fingerprint(whole)
    loss = parts(**batch())
    torch.testing.assert_close(loss, whole(**batch()))
    loss.backward()
    for model, name in ((whole, "whole"), (parts, "parts")):
        model.save_pretrained(tmp_path / name)
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def named(model):
    return list(model.named_parameters())


def test_weights_of_a_saved_model_take_the_place_of_those_that_were_not_read(
    group, folder, tmp_path
):
    trained = make_model(seed=5)
    trained.language_model.bfloat16()
    trained.save_pretrained(tmp_path / "saved")
    model = build(empty, folder)
    load_weights(model, tmp_path / "saved")
    check_holds_nothing(model)
    assert torch.equal(model.adapter.net[0].weight, trained.adapter.net[0].weight)
    check_own_rows(sharded(model, group(4)), trained)


def without_prefix(folder, prefix):
    """Files of the body alone, as GPT-2's and those of many base models are."""
    for file in folder.glob("*.safetensors"):
        tensors = load_file(file)
        save_file({name.removeprefix(prefix): t for name, t in tensors.items()}, file)
    index = folder / "model.safetensors.index.json"
    if index.exists():
        index.write_text(index.read_text().replace(f'"{prefix}', '"'))


def test_weights_are_found_by_the_names_that_they_have_without_their_heads_model(folder, group):
    expected = build(pretrained, folder)
    without_prefix(folder, "model.")
    model = build(empty, folder)
    check_holds_nothing(model)
    check_own_rows(sharded(model, group(4)), expected)


def test_a_gpt2_as_it_was_published_is_read_in_parts(group, tmp_path):
    options = {"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 500, "n_positions": 128}
    fresh("gpt2", options=options).save_pretrained(tmp_path)
    without_prefix(tmp_path, "transformer.")
    [file] = tmp_path.glob("*.safetensors")
    # It holds masks, which are no weights any more, and no head: that is the table of embeddings.
    assert "lm_head.weight" not in load_file(file)
    save_file(load_file(file) | {"h.0.attn.bias": torch.ones(1, 1, 128, 128)}, file)
    model = build(empty, tmp_path)
    check_holds_nothing(model)
    expected = build(pretrained, tmp_path)
    model = sharded(model, group(1))
    assert model.language_model.lm_head.weight is model.language_model.transformer.wte.weight
    torch.testing.assert_close(model(**batch()), expected(**batch()))


def test_weights_that_change_on_the_way_are_loaded_at_once(tmp_path, caplog):
    experts = {"num_local_experts": 2, "num_experts_per_tok": 1}
    make_model(architecture="mixtral", **experts).language_model.save_pretrained(tmp_path)
    model = build(empty, tmp_path)
    assert "each process loads all" in caplog.text
    assert torch.equal(model(**batch()), build(pretrained, tmp_path)(**batch()))


def test_a_missing_weight_is_named(folder):
    for file in folder.glob("*.safetensors"):
        tensors = load_file(file)
        tensors.pop("model.norm.weight", None)
        save_file(tensors, file)
    with pytest.raises(CheckpointError, match=r"it lacks 1 weights, such as model\.norm\.weight"):
        build(empty, folder)


def test_a_weight_of_another_shape_is_named(folder):
    for file in folder.glob("*.safetensors"):
        tensors = load_file(file)
        if "model.norm.weight" in tensors:
            save_file(tensors | {"model.norm.weight": torch.ones(3)}, file)
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight is \(3,\), the model's is"):
        build(empty, folder)


def test_a_tokenizer_of_more_tokens_is_refused(folder):
    with pytest.raises(CheckpointError, match="writes 9999 token ids"):
        empty(str(folder), vocab_size=9999)


def test_a_model_that_is_not_on_this_machine_is_told_how_to_get(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"(?s)us/none cannot be loaded.*hf download us/none"):
        empty("us/none")


@pytest.mark.parametrize("architecture", ["gemma3_text", "qwen2"])
def test_values_that_are_in_no_file_are_computed(group, tmp_path, architecture):
    make_model(architecture=architecture).language_model.save_pretrained(tmp_path)
    model = sharded(build(empty, tmp_path), group(1))
    torch.testing.assert_close(model(**batch()), build(pretrained, tmp_path)(**batch()))


def drawn(make, architecture="llama", smooth=0, **options):
    """A model with random weights, and where torch's generator stands afterwards."""
    torch.manual_seed(0)
    encoder = TimmEncoder("vit_tiny_patch16_224", 32, 8, options=ENCODER)
    language = partial(make, architecture, options=LLAMA | options, unit_init=smooth > 0)
    model = LocVLM.build(encoder, Adapter, language, make_processor(), smooth)
    return model, torch.get_rng_state()


@pytest.mark.parametrize("smooth", [0, 32], ids=["transformers", "unit"])
@pytest.mark.parametrize("tied", [False, True])
def test_random_weights_of_processes_are_those_of_a_single_one(group, smooth, tied):
    options = {"smooth": smooth, "tie_word_embeddings": tied}
    (whole, after), (model, after_parts) = (drawn(make, **options) for make in (fresh, undrawn))
    check_holds_nothing(model)
    assert torch.equal(after, after_parts)
    assert torch.equal(model.adapter.net[0].weight, whole.adapter.net[0].weight)
    check_own_rows(sharded(model, group(4)), whole)


@pytest.mark.parametrize("architecture", ["qwen2", "gemma3_text"])
def test_models_of_random_weights_compute_what_those_of_a_single_process_do(group, architecture):
    (whole, _), (model, _) = (drawn(make, architecture) for make in (fresh, undrawn))
    model = sharded(model, group(1))
    torch.testing.assert_close(model(**batch()), whole(**batch()))


def test_lora_and_a_saved_model_know_random_weights_before_they_are_drawn(group, tmp_path):
    (whole, _), (model, _), (other, _) = (drawn(make) for make in (fresh, undrawn, undrawn))
    trained = add_lora(whole, rank=4, alpha=8)
    assert fingerprint(add_lora(model, rank=4, alpha=8)) == fingerprint(trained)
    seed = make_model(seed=5)
    seed.save_pretrained(tmp_path)
    load_weights(other, tmp_path)
    check_own_rows(sharded(other, group(4)), seed)


def test_weights_that_are_made_of_others_are_drawn_at_once(caplog):
    options = {"hidden_size": 32, "num_hidden_layers": 1, "vocab_size": 9}
    torch.manual_seed(0)
    whole = fresh("mamba", options=options)
    torch.manual_seed(0)
    model = undrawn("mamba", options=options)
    assert "each process draws all" in caplog.text
    for name, weight in whole.named_parameters():
        assert torch.equal(model.get_parameter(name), weight), name


def own_memory():
    """Bytes of this process that no file holds."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for its memory")
def test_weights_of_one_process_stay_in_their_mapped_file(tmp_path):
    make_model(intermediate_size=200_000).language_model.save_pretrained(tmp_path / "llm")
    model = build(empty, tmp_path / "llm")
    before = own_memory()
    read_parts(model)
    weights = list(model.language_model.parameters())
    assert all(weight.max().isfinite() for weight in weights)  # they are read, all of them
    assert own_memory() - before < sum(weight.nbytes for weight in weights) / 4
