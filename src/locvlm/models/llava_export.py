"""A LocVLM as a LLaVA that plain transformers, and what is built on it, can load and serve."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import (
    CLIPImageProcessor,
    GenerationConfig,
    LlavaImageProcessor,
    LlavaProcessor,
    PreTrainedModel,
    SiglipImageProcessor,
)

from locvlm.chat import IMAGE, ChatFormat
from locvlm.errors import CheckpointError, ConfigError, LocVLMError
from locvlm.io import atomic_folder, read_json, write_json
from locvlm.models.encoder import TimmEncoder
from locvlm.models.language import embeddings
from locvlm.models.llava_config import CONFIG, is_llava
from locvlm.models.llava_keys import LANGUAGE, SIGLIP, VIT, Tower, nearest_tower
from locvlm.models.llava_parts import SCALE, blocks_read_last_but_one, two_layers
from locvlm.models.locvlm import LocVLM
from locvlm.models.lora import merged
from locvlm.models.weights import own_tensors
from locvlm.processor import FILE, Processor

WEIGHTS = "model.safetensors"
TOKENIZER = "tokenizer_config.json"
# By timm's classes.
ACTIVATIONS = {"QuickGELU": "quick_gelu", "GELU": "gelu", "GELUTanh": "gelu_pytorch_tanh"}


def export_llava(model: LocVLM, folder: str | Path) -> None:
    """Writes a model as transformers' `LlavaForConditionalGeneration`, whole or not at all.

    The names of weights are those that transformers 4 and 5 read alike. All weights get the type
    of the language model's. Beside what transformers reads stands processor.json, which says how
    the model writes locations.

    Args:
        model: is left as it is.
        folder: to write; an older export is replaced as a whole.

    Raises:
        CheckpointError: the model has parts that LLaVA's classes cannot have.
        LocVLMError: the folder holds something else, or cannot be written.
    """
    _check_replaceable(Path(folder))
    dtype = model.language_model.dtype
    n_rows = max(len(model.processor.tokenizer), embeddings(model.language_model).num_embeddings)
    tower = nearest_tower(model.encoder.vit)
    vision, vision_config = _vision(model.encoder, tower, dtype)
    activation, adapter = two_layers(model.adapter.net)
    if model.encoder.norm:
        adapter["0.weight"] = adapter["0.weight"] / SCALE
    tensors = {
        **vision,
        "multi_modal_projector.linear_1.weight": adapter["0.weight"],
        "multi_modal_projector.linear_1.bias": adapter["0.bias"],
        "multi_modal_projector.linear_2.weight": adapter["2.weight"],
        "multi_modal_projector.linear_2.bias": adapter["2.bias"],
        **_language(model, n_rows),
    }
    config = {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "torch_dtype": str(dtype).removeprefix("torch."),
        "image_token_index": model.processor.image_token_id,
        "image_seq_length": model.encoder.n_patches,
        "projector_hidden_act": activation,
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": tower.strategy,
        "tie_word_embeddings": model.language_model.config.tie_word_embeddings,
        "text_config": _text_config(model.language_model, n_rows),
        "vision_config": vision_config,
    }
    with atomic_folder(folder, marker=FILE) as new:
        save_file(
            {
                name: tensor.detach().to(dtype).cpu().contiguous()
                for name, tensor in tensors.items()
            },
            new / WEIGHTS,
            metadata={"format": "pt"},  # without it transformers 4 refuses the file
        )
        _save_processor(model.processor, tower, new)
        write_json(new / CONFIG, config)
        _generation(model.processor).save_pretrained(new)
        # safetensors writes for the owner's eyes only; a model is shared as its other files are.
        shutil.copymode(new / CONFIG, new / WEIGHTS)


def chat_template(chat: ChatFormat) -> str:
    """A chat format as transformers' Jinja template.

    Contents are texts, or lists of `{"type": "image"}` and `{"type": "text", "text": ...}`, whose
    images come first. The system text is the format's own: a turn with another one is refused.
    """
    before, place, after = chat.user.partition("{text}")
    opening, _, closing = chat.answer.partition("{text}")
    images = _loop("image", _quoted(chat.image))
    said = f"{images}{_loop('text', 'part.text')}" if place else images
    text = "{{ message.content }}" if place else ""
    spoken = "{% if message.content is string %}" + text + "{% else %}" + said + "{% endif %}"
    answer = "{% if message.content is string %}{{ message.content }}{% else %}"
    answer += _loop("text", "part.text") + "{% endif %}"
    return (
        _shown(chat.system)
        + "{% for message in messages %}{% if message.role == 'user' %}"
        + f"{_shown(before)}{spoken}{_shown(after)}"
        + "{% elif message.role == 'assistant' %}"
        + f"{_shown(chat.assistant + opening)}{answer}{_shown(closing + chat.end)}"
        + "{% else %}{{ raise_exception('this model has a system text of its own') }}"
        + "{% endif %}{% endfor %}"
        + "{% if add_generation_prompt %}"
        + f"{_shown(chat.assistant)}"
        + "{% endif %}"
    )


def _check_replaceable(folder: Path) -> None:
    if (folder / FILE).is_file() and not is_llava(folder):
        raise LocVLMError(
            "this would replace a model of locvlm",
            where=str(folder),
            fix="choose another folder for the export",
        )


def _vision(
    encoder: TimmEncoder, tower: Tower, dtype: torch.dtype
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The encoder as a vision tower whose last block but one is read: weights and configuration.

    Raises:
        CheckpointError: transformers' towers lack parts that it has.
    """
    vit = encoder.vit
    if encoder.norm and dtype == torch.float16:
        raise CheckpointError(
            "the encoder's norm needs numbers that float16 does not have",
            where="encoder.norm",
            fix="make the language model bfloat16 or float32",
        )
    tensors, n_blocks = blocks_read_last_but_one(
        own_tensors(vit), len(vit.blocks), encoder.layer, norm=encoder.norm
    )
    block = vit.blocks[0]
    activation = ACTIVATIONS.get(type(block.mlp.act).__name__)
    renamed = tower.from_timm(tensors, n_blocks)
    known = {name for names in tower.names(n_blocks).values() for name in names}
    other = sorted(renamed.keys() ^ known)
    n_tokens = encoder.n_patches + tower.n_more
    if activation not in tower.timm or other or n_tokens != vit.pos_embed.shape[1]:
        raise CheckpointError(
            f"{encoder.name} is no vision tower that LLaVA's classes know"
            + (f": {other[0]}" if other else ""),
            where="encoder",
            fix="models with a plain ViT, or one of OpenAI's CLIP or of SigLIP, can be exported",
        )
    if tower is VIT:  # LLaVA does not use it, transformers 4 misses it
        width = encoder.width
        renamed["pooler.dense.weight"] = torch.zeros(width, width)
        renamed["pooler.dense.bias"] = torch.zeros(width)
    config = {
        "model_type": tower.kind,
        "hidden_act": activation,
        "hidden_size": encoder.width,
        "image_size": encoder.image_size,
        "intermediate_size": block.mlp.fc1.out_features,
        "layer_norm_eps": block.norm1.eps,
        "num_attention_heads": block.attn.num_heads,
        "num_hidden_layers": n_blocks,
        "patch_size": encoder.patch_size,
    }
    if tower is SIGLIP:
        config["vision_use_head"] = False  # its pooling, which LLaVA does not use
    return {f"{tower.prefix}{name}": tensor for name, tensor in renamed.items()}, config


def _language(model: LocVLM, n_rows: int) -> dict[str, Tensor]:
    """The language model with `n_rows` tokens, LoRA merged and what was quantized in floats.

    Raises:
        CheckpointError: it is built in another way than Llama and its kin.
    """
    found = {
        name.removeprefix(LANGUAGE): tensor.detach()
        for name, tensor in merged(model, own_tensors(model))
        if name.startswith(LANGUAGE)
    }
    if other := [name for name in found if not name.startswith(("model.", "lm_head."))]:
        raise CheckpointError(
            f"{type(model.language_model).__name__} has a part {other[0]}",
            where="language_model",
            fix="language models whose parts are `model` and `lm_head` can be exported",
        )
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        if name in found:
            found[name] = _with_rows(found[name], n_rows)
    return {f"{LANGUAGE}{name}": tensor for name, tensor in found.items()}


def _with_rows(table: Tensor, n_rows: int) -> Tensor:
    """A table of embeddings with more rows; those are the mean of all.

    The logit of a mean is the mean of the logits, so the likeliest token stays the same.
    """
    more = table.float().mean(dim=0).to(table.dtype).expand(n_rows - len(table), -1)
    return torch.cat([table, more])


def _text_config(language_model: PreTrainedModel, n_rows: int) -> dict[str, Any]:
    """The language model's configuration, with keys that only transformers 4 reads as well."""
    config = language_model.config.to_dict()
    found = {key: value for key, value in config.items() if not key.startswith("_")}
    rope = found.get("rope_parameters")
    if rope and "rope_theta" in rope:
        found["rope_theta"] = rope["rope_theta"]
        if rope.get("rope_type", "default") != "default":
            found["rope_scaling"] = {k: v for k, v in rope.items() if k != "rope_theta"}
    # vLLM chooses its class by `architectures`.
    return found | {"architectures": [type(language_model).__name__], "vocab_size": n_rows}


def _save_processor(processor: Processor, tower: Tower, folder: Path) -> None:
    side = processor.image_size
    square = {"height": side, "width": side}
    common: dict[str, Any] = {
        "crop_size": square,
        "image_mean": list(processor.mean),
        "image_std": list(processor.std),
    }
    geometry: Any = processor.geometry
    images: Any
    match geometry.__name__:
        case "pad":
            images = LlavaImageProcessor(do_pad=True, do_center_crop=False, size=square, **common)
        case "resize" if tower is SIGLIP:
            images = SiglipImageProcessor(size=square, **common)
        case "resize":
            images = CLIPImageProcessor(do_center_crop=False, size=square, **common)
        case "crop":
            images = CLIPImageProcessor(size={"shortest_edge": side}, **common)
        case name:
            raise ConfigError(f"transformers has no geometry {name}", where="processor.geometry")
    LlavaProcessor(
        image_processor=images,
        tokenizer=processor.tokenizer,
        patch_size=processor.patch_size,
        vision_feature_select_strategy=tower.strategy,
        num_additional_image_tokens=tower.n_more,
        image_token=IMAGE,
        chat_template=chat_template(processor.chat),
    ).save_pretrained(folder)
    images.save_pretrained(folder)  # transformers 4 looks for it in a file of its own
    write_json(folder / TOKENIZER, _older(read_json(folder / TOKENIZER)))
    write_json(folder / FILE, processor.config())


def _older(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """A tokenizer's configuration as transformers 4 understands it too."""
    if tokenizer["tokenizer_class"] == "TokenizersBackend":  # of no class of its own
        tokenizer["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(tokenizer.get("extra_special_tokens"), list):
        tokenizer["additional_special_tokens"] = tokenizer.pop("extra_special_tokens")
    # Without it transformers 4 makes token types, which LLaVA refuses.
    return tokenizer | {"model_input_names": ["input_ids", "attention_mask"]}


def _generation(processor: Processor) -> GenerationConfig:
    return GenerationConfig(
        bos_token_id=processor.tokenizer.bos_token_id,
        eos_token_id=processor.end_id,
        pad_token_id=processor.pad_id,
        suppress_tokens=[processor.image_token_id],  # a place for images, not a word
    )


def _shown(text: str) -> str:
    return f"{{{{ {_quoted(text)} }}}}" if text else ""


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _loop(kind: str, shown: str) -> str:
    return (
        f"{{% for part in message.content if part.type == '{kind}' %}}"
        f"{{{{ {shown} }}}}{{% endfor %}}"
    )
