import io
import json
from pathlib import Path

import jinja2
import pytest
import torch
import yaml
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoProcessor, AutoTokenizer, LlavaForConditionalGeneration

from locvlm import LocVLM, Processor
from locvlm.chat import ChatFormat, Piece, Turn
from locvlm.coordinates import DIGA, IVB
from locvlm.errors import CheckpointError, LocVLMError
from locvlm.geometry import crop, pad, resize
from locvlm.images import normalize
from locvlm.models import Adapter, TimmEncoder
from locvlm.models.language import fresh, pretrained
from locvlm.models.llava import VICUNA
from locvlm.models.llava_export import chat_template, export_llava
from locvlm.models.lora import add_lora, lora_parameters
from locvlm.tokenizers import pretrained as pretrained_tokenizer
from tests.llava import (
    llama_tokenizer,
    make_llava,
    save_authors,
    save_sentencepiece,
    tensors_on_disk,
)
from tests.qwen import save_qwen
from tests.tiny import ENCODER, LLAMA, ask, make_model, make_sample

CONF = Path(__file__).parents[2] / "conf"

QUESTION = "Where is the red circle?"
# Weights as drawn for a tiny model elsewhere make logits of 1e-5 from the last bit of a number.
CALM = LLAMA | {"initializer_range": 0.1}
CLIP, VIT = "vit_large_patch14_clip_quickgelu_336", "vit_tiny_patch16_224"
SIGLIP = "vit_base_patch16_siglip_256"
TANH = {"options": ENCODER | {"act_layer": "gelu_tanh"}}  # as conf/model/encoder has it
BINS = IVB(32)


def make(
    encoder=CLIP,
    *,
    layers=2,
    geometry=pad,
    chat=VICUNA,
    coordinates=BINS,
    language=CALM,
    architecture="llama",
    dtype="float32",
    **options,
):
    """A model whose image token lies outside its vocabulary, as with Vicuna."""
    torch.manual_seed(0)
    made = TimmEncoder(encoder, 32, 8, **({"options": ENCODER} | options))
    processor = Processor(
        llama_tokenizer(),
        coordinates,
        geometry,
        chat,
        image_size=32,
        patch_size=8,
        mean=made.mean,
        std=made.std,
    )
    return LocVLM.build(
        made,
        lambda e, d: Adapter(e, d, layers),
        lambda vocab_size: fresh(
            architecture, options=language, vocab_size=vocab_size, dtype=dtype
        ),
        processor,
    ).eval()


def plain(folder):
    """Plain transformers' model and processor; nothing of the model may be missing."""
    model, report = LlavaForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values())
    return model.eval(), AutoProcessor.from_pretrained(folder)


def check_parity(ours, folder, sample):
    """Same logits and, from the picture and the words on, the same greedy text."""
    model, processor = plain(folder)
    prompt = ours.processor.prompt(sample, ask(QUESTION))
    content = [{"type": "image"}, {"type": "text", "text": QUESTION}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    image = Image.open(io.BytesIO(sample.image))
    inputs = processor(text=text, images=image, return_tensors="pt")
    assert torch.equal(inputs["input_ids"][0], prompt["input_ids"])
    pixels = normalize(prompt["pixel_values"], ours.encoder.mean, ours.encoder.std)
    assert torch.allclose(inputs["pixel_values"], pixels, atol=1e-6, rtol=0)
    with torch.no_grad():
        expected = ours(prompt["input_ids"][None], pixel_values=prompt["pixel_values"])
        logits = model(**inputs).logits[..., : expected.shape[-1]]
        said = model.generate(**inputs, max_new_tokens=8, do_sample=False)
    assert torch.allclose(logits, expected, atol=1e-5, rtol=0)
    n_read = inputs["input_ids"].shape[1]
    assert [processor.decode(said[0, n_read:], skip_special_tokens=True).strip()] == ours.generate(
        [prompt], max_new_tokens=8
    )


@pytest.mark.parametrize(
    ("encoder", "options"),
    [
        (CLIP, {"layer": -2}),
        (CLIP, {"layer": -1}),
        (CLIP, {"layer": -3}),
        (CLIP, {"layer": -1, "norm": True}),
        (CLIP, {"layer": -2, "norm": True}),
        (VIT, {"layer": -2}),
        (VIT, {"layer": -1, "norm": True}),
        (SIGLIP, {"layer": -2}),
        (SIGLIP, {"layer": -2, **TANH}),
        (SIGLIP, {"layer": -1, **TANH}),
        (SIGLIP, {"layer": -3, **TANH}),
        (SIGLIP, {"layer": -1, "norm": True, **TANH}),
    ],
)
@pytest.mark.parametrize("layers", [1, 2])
def test_plain_transformers_says_the_same(tmp_path, encoder, options, layers):
    model = make(encoder, layers=layers, **options)
    export_llava(model, tmp_path / "out")
    check_parity(model, tmp_path / "out", make_sample(size=(48, 41)))


@pytest.mark.parametrize("geometry", [pad, resize])
@pytest.mark.parametrize("size", [(48, 41), (31, 64), (33, 100), (32, 32)])
def test_the_exported_processor_makes_the_same_pixels(tmp_path, geometry, size):
    model = make(geometry=geometry, mean=[0.48, 0.46, 0.41], std=[0.27, 0.26, 0.28])
    export_llava(model, tmp_path / "out")
    check_parity(model, tmp_path / "out", make_sample(size=size))


@pytest.mark.parametrize(
    ("geometry", "kind"), [(resize, "SiglipImageProcessor"), (pad, "LlavaImageProcessor")]
)
@pytest.mark.parametrize("size", [(48, 41), (31, 64), (33, 100), (32, 32)])
def test_a_siglips_processor_makes_the_same_pixels(tmp_path, geometry, kind, size):
    model = make(SIGLIP, geometry=geometry, **TANH)
    export_llava(model, tmp_path / "out")
    check_parity(model, tmp_path / "out", make_sample(size=size))
    written = json.loads((tmp_path / "out" / "preprocessor_config.json").read_text())
    assert written["image_processor_type"] == kind


def test_a_grey_picture_has_three_channels_for_siglip_too(tmp_path):
    export_llava(make(SIGLIP, geometry=resize, **TANH), tmp_path / "out")
    images = AutoProcessor.from_pretrained(tmp_path / "out").image_processor
    assert images(Image.new("L", (48, 40)), return_tensors="pt")["pixel_values"].shape[1] == 3


def test_a_crop_differs_by_the_pixels_that_rounding_moves(tmp_path):
    model = make(geometry=crop)
    export_llava(model, tmp_path / "out")
    check_parity(model, tmp_path / "out", make_sample(size=(48, 48)))
    images = AutoProcessor.from_pretrained(tmp_path / "out").image_processor
    assert (images.do_center_crop, images.size.shortest_edge) == (True, 32)


def test_one_layer_needs_no_activation_that_only_transformers_knows(tmp_path):
    wide = make(layers=1, language=CALM | {"hidden_size": 64})
    export_llava(wide, tmp_path / "wide")
    assert config_of(tmp_path / "wide")["projector_hidden_act"] == "relu"
    check_parity(wide, tmp_path / "wide", make_sample())
    export_llava(make(layers=1), tmp_path / "narrow")
    assert config_of(tmp_path / "narrow")["projector_hidden_act"] == "linear"


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


def test_names_are_those_that_older_transformers_read(tmp_path):
    export_llava(make(), tmp_path / "out")
    newer = tensors_on_disk(make_llava(len(llama_tokenizer()) + 1))
    # transformers 4.57 finds no tower without `vision_model.`, and draws a random one.
    older = {name.replace("vision_tower.", "vision_tower.vision_model.") for name in newer}
    with safe_open(tmp_path / "out" / "model.safetensors", "pt") as file:
        assert set(file.keys()) == older
        assert file.metadata() == {"format": "pt"}


def test_a_plain_vit_is_named_as_older_transformers_name_it(tmp_path):
    export_llava(make(VIT), tmp_path / "out")
    ours = load_file(tmp_path / "out" / "model.safetensors")
    for name in (
        "vision_tower.embeddings.patch_embeddings.projection.bias",
        "vision_tower.encoder.layer.2.attention.attention.query.weight",
        "vision_tower.encoder.layer.2.attention.output.dense.weight",
        "vision_tower.layernorm.weight",
        "vision_tower.pooler.dense.bias",
    ):
        assert name in ours


def test_a_siglip_has_all_of_its_tokens_read_and_no_pooling(tmp_path):
    export_llava(make(SIGLIP, **TANH), tmp_path / "out")
    config = config_of(tmp_path / "out")
    assert config["vision_feature_select_strategy"] == "full"
    assert config["vision_config"]["model_type"] == "siglip_vision_model"
    assert config["vision_config"]["hidden_act"] == "gelu_pytorch_tanh"
    assert config["vision_config"]["vision_use_head"] is False
    names = load_file(tmp_path / "out" / "model.safetensors").keys()
    assert "vision_tower.vision_model.embeddings.patch_embedding.bias" in names
    assert not any(".head." in name for name in names)


def test_the_small_models_parts_are_exported_and_come_back(tmp_path):
    save_qwen(tmp_path / "qwen")
    torch.manual_seed(0)
    fields = yaml.safe_load((CONF / "chat" / "chatml.yaml").read_text())
    processor = Processor(
        pretrained_tokenizer(str(tmp_path / "qwen")),
        BINS,
        resize,
        ChatFormat(**{key: value for key, value in fields.items() if key != "_target_"}),
        image_size=32,
        patch_size=8,
    )
    model = LocVLM.build(
        TimmEncoder(SIGLIP, 32, 8, **TANH),
        lambda e, d: Adapter(e, d, 2),
        lambda vocab_size: pretrained(str(tmp_path / "qwen"), vocab_size=vocab_size),
        processor,
    ).eval()
    export_llava(model, tmp_path / "out")
    assert "language_model.lm_head.weight" not in load_file(tmp_path / "out" / "model.safetensors")
    check_parity(model, tmp_path / "out", make_sample())
    again = LocVLM.from_pretrained(tmp_path / "out")
    assert again.processor.config() == processor.config()
    assert again.language_model.lm_head.weight is again.language_model.model.embed_tokens.weight
    prompt = processor.prompt(make_sample(), ask(QUESTION))
    assert again.generate([prompt]) == model.generate([prompt])


def test_the_tokenizer_is_said_as_older_transformers_read_it(tmp_path):
    (tmp_path / "llava").mkdir()
    save_authors(make_llava(400), tmp_path / "llava")
    (tmp_path / "llava" / "tokenizer.json").unlink()
    save_sentencepiece(tmp_path / "llava")
    for name, model in (("own", make()), ("llama", LocVLM.from_pretrained(tmp_path / "llava"))):
        export_llava(model, tmp_path / name)
        written = json.loads((tmp_path / name / "tokenizer_config.json").read_text())
        # 4.57 knows no TokenizersBackend, takes a mapping here, and makes token types of its own.
        assert written["tokenizer_class"] in ("PreTrainedTokenizerFast", "LlamaTokenizer")
        assert not isinstance(written.get("extra_special_tokens"), list)
        assert written["model_input_names"] == ["input_ids", "attention_mask"]
        check_parity(model, tmp_path / name, make_sample())


@pytest.mark.parametrize(
    ("rope", "older"),
    [
        ({"rope_type": "default", "rope_theta": 5e5}, {"rope_theta": 5e5}),
        (
            {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4},
            {"rope_theta": 1e4, "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        ),
    ],
)
def test_rotary_embeddings_are_said_as_older_transformers_read_them(tmp_path, rope, older):
    model = make(language=CALM | {"rope_parameters": rope})
    export_llava(model, tmp_path / "out")
    text = config_of(tmp_path / "out")["text_config"]
    assert {key: text[key] for key in ("rope_theta", "rope_scaling") if key in text} == older
    check_parity(model, tmp_path / "out", make_sample())


def test_the_image_token_gets_a_row_that_is_never_the_likeliest(tmp_path):
    model = make()
    token = model.processor.image_token_id
    assert model.language_model.config.vocab_size == token
    ids = torch.tensor([[1, 5, 9]])
    with torch.no_grad():
        hidden = model.language_model.model(ids).last_hidden_state[0, -1]
        model.language_model.lm_head.weight.normal_(std=0.01).sub_(hidden)  # logits far below 0
    export_llava(model, tmp_path / "out")
    exported, _ = plain(tmp_path / "out")
    assert exported.config.image_token_index == token
    assert exported.get_input_embeddings().num_embeddings == token + 1
    logits = exported(ids).logits[0, -1]
    assert logits[token] < logits[:token].max() < 0
    assert exported.generation_config.suppress_tokens == [token]


def test_an_image_token_among_the_others_is_never_said_either(tmp_path):
    model = make_model(layers=2)
    assert model.processor.image_token_id < model.language_model.config.vocab_size
    export_llava(model, tmp_path / "out")
    exported, processor = plain(tmp_path / "out")
    assert exported.config.image_token_index == model.processor.image_token_id
    assert exported.generation_config.suppress_tokens == [model.processor.image_token_id]


@pytest.mark.parametrize("architecture", ["qwen2", "mistral"])
def test_other_language_models_are_exported_as_well(tmp_path, architecture):
    model = make(architecture=architecture)
    export_llava(model, tmp_path / "out")
    [named] = config_of(tmp_path / "out")["text_config"]["architectures"]
    assert named == type(model.language_model).__name__
    check_parity(model, tmp_path / "out", make_sample())


def test_tied_embeddings_stay_tied(tmp_path):
    model = make(language=CALM | {"tie_word_embeddings": True})
    export_llava(model, tmp_path / "out")
    assert "language_model.lm_head.weight" not in load_file(tmp_path / "out" / "model.safetensors")
    check_parity(model, tmp_path / "out", make_sample())


def test_all_weights_get_the_type_of_the_language_model(tmp_path):
    export_llava(make(dtype="bfloat16"), tmp_path / "out")
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    assert config_of(tmp_path / "out")["torch_dtype"] == "bfloat16"


def test_lora_is_merged(tmp_path):
    model = add_lora(make(), rank=2, alpha=4).eval()
    for weight in lora_parameters(model).values():
        torch.nn.init.normal_(weight, std=0.2)
    export_llava(model, tmp_path / "out")
    check_parity(model, tmp_path / "out", make_sample())


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("encoder", [CLIP, VIT, SIGLIP])
def test_an_export_becomes_the_same_model_again(tmp_path, encoder, layers, width):
    model = make(
        encoder,
        layers=layers,
        layer=-1,
        norm=True,
        coordinates=DIGA(32, 8),
        language=CALM | {"hidden_size": width},
    )
    export_llava(model, tmp_path / "out")
    again = LocVLM.from_pretrained(tmp_path / "out")
    assert again.processor.config() == model.processor.config()
    assert again.adapter.layers == layers
    prompt = model.processor.prompt(make_sample(), ask(QUESTION))
    with torch.no_grad():
        expected = model(prompt["input_ids"][None], pixel_values=prompt["pixel_values"])
        logits = again(prompt["input_ids"][None], pixel_values=prompt["pixel_values"])
    assert torch.allclose(logits[..., : expected.shape[-1]], expected, atol=1e-5, rtol=0)
    assert again.generate([prompt]) == model.generate([prompt])


FORMATS = [
    ChatFormat(),
    VICUNA,
    ChatFormat(
        system='<<SYS>> "quoted" {{ braces }}\n\\ \N{GRINNING FACE}\n',
        user="[INST] {text} [/INST]",
        assistant="",
        answer=" {text} ",
        image="Picture: <image> ",
    ),
    ChatFormat(user="", assistant="", answer="{text}", end="\n", image="<image>"),
]


@pytest.mark.parametrize("chat", FORMATS)
@pytest.mark.parametrize("n_turns", [1, 2, 3])
@pytest.mark.parametrize("n_images", [0, 1])
def test_the_chat_template_writes_what_the_chat_format_writes(chat, n_turns, n_images):
    tokenizer = llama_tokenizer()
    tokenizer.chat_template = chat_template(chat)
    roles = ["user", "assistant", "user"][:n_turns]
    turns = [Turn(role, (Piece(f"turn {n}"),)) for n, role in enumerate(roles)]
    messages = [
        {"role": turn.role, "content": [{"type": "text", "text": turn.text}]} for turn in turns
    ]
    messages[0]["content"] += [{"type": "image"}] * n_images
    written = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=roles[-1] == "user"
    )
    assert written == chat.render(turns, n_images).text


def test_the_chat_template_takes_plain_text_as_lmms_eval_gives_it(tmp_path):
    export_llava(make(), tmp_path / "out")
    messages = [{"role": "user", "content": f"<image>\n{QUESTION}"}]
    written = AutoTokenizer.from_pretrained(tmp_path / "out").apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True
    )
    assert written == f"{VICUNA.system}USER: <image>\n{QUESTION} ASSISTANT:"


def test_the_chat_template_refuses_another_system_text():
    tokenizer = llama_tokenizer()
    tokenizer.chat_template = chat_template(VICUNA)
    with pytest.raises(jinja2.TemplateError, match="system text of its own"):
        tokenizer.apply_chat_template([{"role": "system", "content": "Be rude."}])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "vit_small_patch14_reg4_dinov2"}, "no vision tower that LLaVA"),
        ({"options": ENCODER | {"act_layer": "relu"}}, "no vision tower that LLaVA"),
        ({"dtype": "float16", "norm": True}, "needs numbers that float16 does not have"),
        ({"architecture": "gpt2", "language": {"n_embd": 32, "n_layer": 1, "n_head": 2}}, "GPT2"),
    ],
)
def test_what_llavas_classes_cannot_have_is_refused(tmp_path, options, message):
    with pytest.raises(CheckpointError, match=message):
        export_llava(make(**options), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_older_export_is_replaced_and_nothing_else(tmp_path):
    model = make()
    export_llava(model, tmp_path / "out")
    export_llava(make(layers=1), tmp_path / "out")
    assert config_of(tmp_path / "out")["projector_hidden_act"] == "linear"
    model.save_pretrained(tmp_path / "ours")
    with pytest.raises(LocVLMError, match="would replace a model of locvlm"):
        export_llava(model, tmp_path / "ours")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "config.json").write_text("{}")
    with pytest.raises(LocVLMError, match=r"would replace a folder without processor.json"):
        export_llava(model, tmp_path / "theirs")


def test_whoever_may_read_the_config_may_read_the_weights(tmp_path):
    export_llava(make(), tmp_path / "out")
    config, weights = (tmp_path / "out" / name for name in ("config.json", "model.safetensors"))
    assert weights.stat().st_mode == config.stat().st_mode


def test_the_model_is_left_as_it_is(tmp_path):
    model = make(layers=1, layer=-1, norm=True)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    export_llava(model, tmp_path / "out")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
