"""LLaVA's checkpoints as LocVLMs, from transformers' layout or that of LLaVA's authors."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from locvlm.chat import ChatFormat
from locvlm.coordinates import IVB, Coordinates
from locvlm.errors import CheckpointError
from locvlm.geometry import GeometryMode, crop, pad, resize
from locvlm.models.adapter import Adapter
from locvlm.models.encoder import TimmEncoder
from locvlm.models.files import Found, read, read_folder
from locvlm.models.language import architecture, embeddings, fresh
from locvlm.models.llava_config import IMAGES, Llava, read_llava
from locvlm.models.llava_keys import (
    ADAPTER,
    ENCODER,
    LANGUAGE,
    TOWERS,
    Tower,
    own_name,
    to_own_names,
)
from locvlm.models.llava_parts import one_layer
from locvlm.models.locvlm import LocVLM
from locvlm.models.parts import read_parts
from locvlm.models.weights import fill, own_tensors
from locvlm.processor import FILE, Processor

VICUNA = ChatFormat(
    system="A chat between a curious user and an artificial intelligence assistant. The assistant "
    "gives helpful, detailed, and polite answers to the user's questions. "
)
MAX_LENGTH = 2048  # tokens, as LLaVA-1.5 was trained
BICUBIC = 3  # PIL's number


def load_llava(
    folder: str | Path,
    processor: Processor | None = None,
    *,
    coordinates: Coordinates | None = None,
) -> LocVLM:
    """The LLaVA in a folder as a LocVLM, in evaluation mode. No code that it brings is run.

    Args:
        folder: as in `empty_llava`, and so are `processor` and `coordinates`.
        processor: of its token ids.
        coordinates: the scheme that writes locations.

    Raises:
        CheckpointError: as in `empty_llava`.
    """
    model = empty_llava(folder, processor, coordinates=coordinates)
    read_parts(model)
    return model


def empty_llava(
    folder: str | Path,
    processor: Processor | None = None,
    *,
    coordinates: Coordinates | None = None,
) -> LocVLM:
    """As `load_llava`, but its language model has no weights until `read_parts` reads them.

    The language model keeps the type of its weights; encoder and adapter get float32, as in every
    new model.

    Args:
        folder: what transformers' `LlavaForConditionalGeneration` or LLaVA's authors saved.
        processor: of its token ids; None: `llava_processor`'s.
        coordinates: as in `llava_processor`.

    Raises:
        CheckpointError: the folder is incomplete, or its model of a kind that a `LocVLM` cannot be.
    """
    llava = read_llava(folder)
    tower = _tower(llava)
    tensors = _tensors(llava, tower)
    processor = processor or llava_processor(folder, coordinates)
    encoder = _encoder(llava, tower, processor)
    table = tensors.get(f"{LANGUAGE}model.embed_tokens.weight")
    dtype = "float32" if table is None else str(table.dtype).removeprefix("torch.")
    with torch.device("meta"):
        language = fresh(**architecture(llava.text), dtype=dtype)
    _check_tokens(processor, embeddings(language).num_embeddings, str(folder))
    width = embeddings(language).embedding_dim
    adapter = Adapter(encoder.width, width, layers=2 if llava.activation == "gelu" else 1)
    model = LocVLM(encoder, adapter, language, processor)
    fill(own_tensors(model), tensors, str(folder))
    return model.eval()


def llava_processor(folder: str | Path, coordinates: Coordinates | None = None) -> Processor:
    """What makes a LLaVA's tokens and images, from its tokenizer's and image processor's files.

    Args:
        folder: of the LLaVA.
        coordinates: the scheme that writes locations; None: that of the model which was exported
            into this folder, else `IVB` with a bin for each pixel.

    Raises:
        CheckpointError: files are missing, or the image processor does what ours cannot.
    """
    if coordinates is None and (Path(folder) / FILE).is_file():
        return Processor.load(folder)
    llava = read_llava(folder)
    side = llava.vision.image_size
    # The authors' config.json names a model that transformers does not know, or means another by.
    config = llava.text if llava.tower else None
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, config=config, local_files_only=True)
    except (ImportError, OSError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"no tokenizer that can be read here: {str(error).splitlines()[0]}",
            where=str(folder),
            fix="copy or download the folder again",
        ) from error
    return Processor(
        tokenizer,
        coordinates or IVB(side),
        _geometry(llava.images, side, str(folder)),
        replace(VICUNA, end=tokenizer.eos_token),
        image_size=side,
        patch_size=llava.vision.patch_size,
        mean=llava.images["image_mean"],
        std=llava.images["image_std"],
        max_length=min(MAX_LENGTH, llava.text.max_position_embeddings),
    )


def _geometry(images: Mapping[str, Any], side: int, where: str) -> GeometryMode:
    """The geometry of an image processor, which must make frames of `side` pixels by ours."""
    place = f"{where}, {IMAGES}"
    size = images.get("size", side)
    squashed = isinstance(size, dict) and "height" in size
    cropped = images.get("do_center_crop", True)
    made = images.get("crop_size", size) if cropped else size
    made = set(made.values()) if isinstance(made, dict) else {made}
    for step in ("do_resize", "do_rescale", "do_normalize"):
        if not images.get(step, True):
            raise CheckpointError(f"{step} is false: locvlm always does", where=place)
    if made != {side} or images.get("resample", BICUBIC) != BICUBIC:
        raise CheckpointError(
            f"its images become {made} pixels with filter {images.get('resample', BICUBIC)}, the "
            f"encoder reads {side} pixels and locvlm resizes with filter {BICUBIC}",
            where=place,
        )
    if images.get("do_pad"):
        return pad
    if squashed:
        return resize
    if not cropped:
        raise CheckpointError("its images are neither padded nor cropped to squares", where=place)
    return crop


def _check_tokens(processor: Processor, n_rows: int, where: str) -> None:
    ids = {*processor.tokenizer.get_vocab().values()} - {processor.image_token_id}
    if max(ids) >= n_rows:
        raise CheckpointError(
            f"the tokenizer writes token ids up to {max(ids)}, the language model knows {n_rows}",
            where=where,
            fix="use the tokenizer that belongs to this language model",
        )


def _tower(llava: Llava) -> Tower:
    vision = llava.vision
    tower = TOWERS.get(vision.model_type)
    if tower is None or vision.hidden_act not in tower.timm or vision.layer_norm_eps != tower.eps:
        raise CheckpointError(
            f"its vision tower is {vision.model_type}, with {vision.hidden_act} and norms of "
            f"{vision.layer_norm_eps}",
            where=str(llava.folder),
            fix="LLaVAs with a CLIP of OpenAI's kind or a SigLIP can be loaded",
        )
    return tower


def _encoder(llava: Llava, tower: Tower, processor: Processor) -> TimmEncoder:
    vision = llava.vision
    return TimmEncoder(
        tower.timm[vision.hidden_act],
        vision.image_size,
        vision.patch_size,
        layer=llava.layer,
        mean=processor.mean,
        std=processor.std,
        options={
            "patch_size": vision.patch_size,
            "embed_dim": vision.hidden_size,
            "depth": vision.num_hidden_layers,
            "num_heads": vision.num_attention_heads,
            "mlp_ratio": vision.intermediate_size / vision.hidden_size,
        },
    )


def _tensors(llava: Llava, tower: Tower) -> dict[str, Found]:
    """All of its weights, under the names that a `LocVLM` has for them."""
    found = read_folder(llava.folder)
    if llava.tower and not any(own_name(name).startswith(ENCODER) for name in found):
        beside = read_folder(llava.tower)
        found |= {name: t for name, t in beside.items() if own_name(name).startswith(ENCODER)}
    tensors = to_own_names(found, tower, llava.vision.num_hidden_layers)
    for name in [name for name in tensors if name.startswith((ENCODER, ADAPTER))]:
        tensors[name] = read(tensors[name]).float()
    if llava.text.tie_word_embeddings:
        tensors.pop(f"{LANGUAGE}lm_head.weight", None)
    if llava.activation in ("linear", "relu"):
        adapter = [name for name in tensors if name.startswith(ADAPTER)]
        two = {name.removeprefix(ADAPTER): read(tensors.pop(name)) for name in adapter}
        one = one_layer(llava.activation, two, str(llava.folder))
        tensors |= {f"{ADAPTER}{name}": tensor for name, tensor in one.items()}
    return tensors
