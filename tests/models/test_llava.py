import json
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    AutoProcessor,
    CLIPImageProcessor,
    LlamaTokenizer,
    LlavaImageProcessor,
)

from locvlm import LocVLM
from locvlm.chat import ChatFormat
from locvlm.coordinates import IVB, NFP
from locvlm.errors import CheckpointError
from locvlm.geometry import crop, pad, resize
from locvlm.images import normalize
from locvlm.models.inputs import to_sample
from locvlm.models.llava import VICUNA, llava_processor, load_llava
from tests.llava import (
    SQUARE,
    TOWER,
    llama_tokenizer,
    make_llava,
    make_siglip_llava,
    save_authors,
    save_sentencepiece,
    save_transformers_4,
    save_transformers_5,
    vicuna_prompt,
)
from tests.tiny import LLAMA, ask, make_sample

CONF = Path(__file__).parents[2] / "conf"
N_TOKENS = len(llama_tokenizer()) + 1
QUESTION = "Where is the red circle?"


@pytest.fixture(scope="module")
def llava():
    return make_llava(N_TOKENS)


@pytest.fixture
def picture():
    """Square, so that every geometry gives the same pixels."""
    noise = torch.randint(0, 256, (40, 40, 3), generator=torch.Generator().manual_seed(0))
    return Image.fromarray(noise.byte().numpy())


LAYOUTS = {
    "transformers 5": save_transformers_5,
    "transformers 4": save_transformers_4,
    "authors": save_authors,
    "authors, with tower": lambda model, folder: save_authors(model, folder, with_tower=True),
}


@pytest.fixture(params=LAYOUTS)
def folder(llava, tmp_path, request):
    LAYOUTS[request.param](llava, tmp_path)
    return tmp_path


def theirs(llava, picture, n_new=8):
    """Logits and the greedy continuation that transformers has for the question."""
    tokenizer = llama_tokenizer()
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    text = vicuna_prompt(QUESTION).replace("<image>", "<image>" * 16)
    ids = tokenizer(text, return_tensors="pt").input_ids
    pixels = CLIPImageProcessor(size=SQUARE, do_center_crop=False)(picture, return_tensors="pt")
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **pixels}
    with torch.no_grad():
        logits = llava(**inputs).logits
        said = llava.generate(
            **inputs, max_new_tokens=n_new, do_sample=False, suppress_tokens=[N_TOKENS - 1]
        )
    return logits, tokenizer.decode(said[0, ids.shape[1] :], skip_special_tokens=True).strip()


def test_a_llava_of_any_layout_says_the_same_as_in_transformers(llava, folder, picture):
    model = LocVLM.from_pretrained(folder)
    assert not model.training
    prompt = model.processor.prompt(to_sample(picture), ask(QUESTION))
    with torch.no_grad():
        logits = model(prompt["input_ids"][None], pixel_values=prompt["pixel_values"])
    expected, text = theirs(llava, picture)
    assert torch.allclose(logits, expected[..., : logits.shape[-1]], atol=1e-5, rtol=0)
    assert model.generate([prompt], max_new_tokens=8) == [text]


def test_timms_clip_is_transformers_clip_at_the_last_layer_but_one(llava, tmp_path, picture):
    save_transformers_5(llava, tmp_path)
    encoder = LocVLM.from_pretrained(tmp_path).encoder
    pixels = CLIPImageProcessor(size=SQUARE, do_center_crop=False)(picture, return_tensors="pt")
    with torch.no_grad():
        tower = llava.model.vision_tower(**pixels, output_hidden_states=True)
        assert torch.equal(encoder(pixels["pixel_values"]), tower.hidden_states[-2][:, 1:])


@pytest.mark.parametrize("layer", [-1, -3, 1, 2])
def test_another_layer_is_read_where_the_config_says_so(tmp_path, picture, layer):
    llava = make_llava(N_TOKENS, vision_feature_layer=layer)
    save_transformers_5(llava, tmp_path)
    model = LocVLM.from_pretrained(tmp_path)
    prompt = model.processor.prompt(to_sample(picture), ask(QUESTION))
    with torch.no_grad():
        logits = model(prompt["input_ids"][None], pixel_values=prompt["pixel_values"])
    assert torch.allclose(logits, theirs(llava, picture)[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("save", [save_transformers_5, save_transformers_4])
@pytest.mark.parametrize("layer", [-2, -1, -3, 2])
def test_a_llava_with_a_siglip_says_the_same_as_in_transformers(tmp_path, picture, save, layer):
    llava = make_siglip_llava(N_TOKENS, vision_feature_layer=layer)
    save(llava, tmp_path)
    model = LocVLM.from_pretrained(tmp_path)
    assert model.encoder.n_patches == 16
    prompt = model.processor.prompt(to_sample(picture), ask(QUESTION))
    with torch.no_grad():
        logits = model(prompt["input_ids"][None], pixel_values=prompt["pixel_values"])
    expected, text = theirs(llava, picture)
    assert torch.allclose(logits, expected[..., : logits.shape[-1]], atol=1e-5, rtol=0)
    assert model.generate([prompt], max_new_tokens=8) == [text]


@pytest.mark.parametrize("save", [save_transformers_5, save_transformers_4])
def test_tied_embeddings_stay_tied(tmp_path, picture, save):
    llava = make_llava(N_TOKENS, text=LLAMA | {"tie_word_embeddings": True})
    save(llava, tmp_path)  # the older one stores them twice
    model = LocVLM.from_pretrained(tmp_path)
    language = model.language_model
    assert language.lm_head.weight is language.model.embed_tokens.weight
    prompt = model.processor.prompt(to_sample(picture), ask(QUESTION))
    assert model.generate([prompt], max_new_tokens=8) == [theirs(llava, picture)[1]]


def test_half_precision_stays_in_the_language_model(llava, tmp_path):
    save_transformers_5(make_llava(N_TOKENS).half(), tmp_path)
    model = LocVLM.from_pretrained(tmp_path)
    assert model.language_model.dtype == torch.float16
    assert {p.dtype for p in model.adapter.parameters()} == {torch.float32}
    assert {p.dtype for p in model.encoder.parameters()} == {torch.float32}


def test_a_llava_becomes_a_model_folder_of_ours(llava, tmp_path, picture):
    (tmp_path / "llava").mkdir()
    save_authors(llava, tmp_path / "llava")
    model = LocVLM.from_pretrained(tmp_path / "llava")
    model.save_pretrained(tmp_path / "ours")
    again = LocVLM.from_pretrained(tmp_path / "ours")
    prompt = model.processor.prompt(to_sample(picture), ask(QUESTION))
    assert again.generate([prompt], max_new_tokens=8) == [theirs(llava, picture)[1]]


@pytest.mark.parametrize(
    ("images", "geometry"),
    [
        (None, crop),
        (LlavaImageProcessor(do_pad=True, do_center_crop=False, size=SQUARE), pad),
        (CLIPImageProcessor(do_center_crop=False, size=SQUARE), resize),
    ],
)
def test_the_geometry_is_that_of_the_image_processor(llava, tmp_path, images, geometry):
    save_transformers_5(llava, tmp_path, images)
    assert llava_processor(tmp_path).geometry is geometry


@pytest.mark.parametrize(("aspect", "geometry"), [("pad", pad), ("square", crop), (None, crop)])
def test_the_geometry_of_llavas_authors_is_their_aspect_ratio(llava, tmp_path, aspect, geometry):
    save_authors(llava, tmp_path, aspect=aspect)
    assert llava_processor(tmp_path).geometry is geometry


@pytest.mark.parametrize("size", [(48, 40), (31, 64), (33, 100)])
@pytest.mark.parametrize("kind", ["pad", "resize"])
def test_pixels_are_those_of_the_image_processor(llava, tmp_path, size, kind):
    if kind == "pad":
        images = LlavaImageProcessor(do_pad=True, do_center_crop=False, size=SQUARE)
    else:
        images = CLIPImageProcessor(do_center_crop=False, size=SQUARE)
    save_transformers_5(llava, tmp_path, images)
    noise = torch.randint(0, 256, (size[1], size[0], 3), generator=torch.Generator().manual_seed(1))
    picture = Image.fromarray(noise.byte().numpy())
    processor = llava_processor(tmp_path)
    ours = normalize(processor.pixel_values(to_sample(picture)), processor.mean, processor.std)
    expected = AutoProcessor.from_pretrained(tmp_path).image_processor(picture, return_tensors="pt")
    assert torch.allclose(ours, expected["pixel_values"], atol=1e-6, rtol=0)


def test_coordinates_are_bins_of_a_pixel_or_what_is_given(llava, tmp_path):
    save_transformers_5(llava, tmp_path)
    assert llava_processor(tmp_path).coordinates == IVB(32)
    assert load_llava(tmp_path, coordinates=NFP(2)).processor.coordinates == NFP(2)


def test_the_chat_is_vicunas_with_the_tokenizers_end(llava, tmp_path):
    save_transformers_5(llava, tmp_path)
    assert llava_processor(tmp_path).chat == VICUNA
    written = yaml.safe_load((CONF / "chat" / "vicuna_v1.yaml").read_text())
    assert ChatFormat(**{key: text for key, text in written.items() if key[0] != "_"}) == VICUNA


@pytest.mark.parametrize("model_type", ["llava", "llava_llama"])
def test_a_tokenizer_of_sentencepiece_alone_is_read(llava, tmp_path, model_type):
    save_authors(llava, tmp_path, model_type=model_type)
    (tmp_path / "tokenizer.json").unlink()
    pieces = save_sentencepiece(tmp_path)
    processor = llava_processor(tmp_path)
    assert type(processor.tokenizer) is LlamaTokenizer
    ids = processor.prompt(to_sample(make_sample().image), ask(QUESTION))["input_ids"].tolist()
    assert [ids[0], processor.image_token_id] == [pieces.bos_id(), len(pieces)]
    before, _, after = vicuna_prompt(QUESTION).partition("<image>")
    at = ids.index(processor.image_token_id)
    assert ids[1:at] == pieces.encode(before)
    line, *words = pieces.encode(after)[1:]  # without the space that begins a text
    assert ids[at + processor.image_tokens :] == [line, *words]
    assert pieces.id_to_piece(line) == "<0x0A>"


def test_missing_weights_are_named(llava, tmp_path):
    save_transformers_4(llava, tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    del tensors["vision_tower.vision_model.encoder.layers.1.self_attn.k_proj.bias"]
    del tensors["multi_modal_projector.linear_2.weight"]
    save_file(tensors, path)
    with pytest.raises(CheckpointError) as error:
        LocVLM.from_pretrained(tmp_path)
    assert "missing: encoder.vit.blocks.1.attn.qkv.bias 96" in str(error.value)
    assert "missing: adapter.net.2.weight 32x32" in str(error.value)


def test_unknown_weights_are_named(llava, tmp_path):
    save_transformers_4(llava, tmp_path)
    path = tmp_path / "model.safetensors"
    save_file(load_file(path) | {"image_newline": torch.zeros(32)}, path)
    with pytest.raises(CheckpointError, match="unknown: image_newline 32"):
        LocVLM.from_pretrained(tmp_path)


def test_a_missing_tower_says_how_to_bring_it(llava, tmp_path):
    save_authors(llava, tmp_path)
    tower = tmp_path / TOWER.rpartition("/")[2]
    tower.rename(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError) as error:
        LocVLM.from_pretrained(tmp_path)
    assert f"hf download {TOWER} --local-dir {tower}" in str(error.value)


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("save", "file", "changes", "message"),
    [
        (save_transformers_4, "config.json", {"vision_feature_select_strategy": "full"}, "'full'"),
        (save_transformers_4, "config.json", {"vision_feature_layer": [-2, -3]}, "'list'"),
        (save_transformers_4, "config.json", {"projector_hidden_act": "silu"}, "'silu'"),
        (save_transformers_4, "config.json", {"projector_hidden_act": "relu"}, "ReLU between"),
        (save_transformers_4, "config.json", {"vision_config": 3}, "no configuration of a LLaVA"),
        (
            save_transformers_4,
            "config.json",
            {"vision_config": {"model_type": "siglip2_vision_model"}},
            "siglip2_vision_model",
        ),
        (
            save_transformers_4,
            "config.json",
            {"vision_config": {"model_type": "siglip_vision_model"}},
            "'default'",
        ),
        (save_transformers_4, "preprocessor_config.json", {"crop_size": 48}, "48"),
        (save_transformers_4, "preprocessor_config.json", {"resample": 2}, "filter 2"),
        (save_transformers_4, "preprocessor_config.json", {"do_normalize": False}, "do_normalize"),
        (save_transformers_4, "preprocessor_config.json", {"do_center_crop": False}, "neither"),
        (save_authors, "config.json", {"image_aspect_ratio": "anyres"}, "'anyres'"),
        (save_authors, "config.json", {"mm_projector_type": "mlp3x_gelu"}, "'mlp3x_gelu'"),
        (save_authors, "config.json", {"mm_use_im_start_end": True}, "mm_use_im_start_end"),
        (save_authors, "config.json", {"mm_vision_select_feature": "cls_patch"}, "'cls_patch'"),
    ],
)
def test_other_kinds_of_llava_are_refused(llava, tmp_path, save, file, changes, message):
    save(llava, tmp_path)
    edit(tmp_path / file, **changes)
    with pytest.raises(CheckpointError, match=message):
        LocVLM.from_pretrained(tmp_path)


def test_a_tokenizer_of_another_language_model_is_refused(tmp_path):
    save_authors(make_llava(N_TOKENS - 9), tmp_path)
    with pytest.raises(CheckpointError, match=f"up to {N_TOKENS - 2}, .* knows {N_TOKENS - 9}"):
        LocVLM.from_pretrained(tmp_path)


def test_a_folder_without_tokenizer_is_refused(llava, tmp_path):
    save_transformers_4(llava, tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="no tokenizer"):
        LocVLM.from_pretrained(tmp_path)
