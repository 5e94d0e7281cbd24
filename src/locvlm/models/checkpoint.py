"""Saved models: a folder with weights, config.json and the processor's files."""

import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from locvlm.config import build
from locvlm.errors import CheckpointError, DataError
from locvlm.io import atomic_folder, read_json, write_json
from locvlm.models import lora
from locvlm.models.adapter import Adapter
from locvlm.models.encoder import TimmEncoder
from locvlm.models.files import read_folder, read_weights, write_weights
from locvlm.models.language import fresh_arguments
from locvlm.models.llava import empty_llava, llava_processor, load_llava
from locvlm.models.llava_config import is_llava
from locvlm.models.locvlm import LocVLM
from locvlm.models.weights import fill, gathered, is_first_process, own_tensors
from locvlm.processor import Processor

FORMAT = 1
CONFIG = "config.json"
PARTS = ("encoder", "adapter", "language_model")


def save_model(model: LocVLM, folder: str | Path) -> None:
    """Writes a model folder whole or not at all; an older one is replaced.

    LoRA is merged into the weights, and quantized weights become floats again, so that a saved
    model is one like any other. LoRA alone goes into `lora/`, in peft's format. Where weights are
    sharded all processes must call this; the first one writes, and never holds more than a file.

    Raises:
        LocVLMError: the folder is there and not one of ours, or cannot be written.
    """
    config = {
        "format": FORMAT,
        "locvlm": version("locvlm"),
        "encoder": _node(model.encoder),
        "adapter": _node(model.adapter),
        "language_model": {
            "_target_": "locvlm.models.language.fresh",
            **fresh_arguments(model.language_model),
        },
    }
    if lora.is_fixed(model):
        config["fixed"] = lora.fingerprint(model)
    added = dict(gathered(lora.lora_parameters(model).items()))
    tensors = gathered(lora.merged(model, own_tensors(model)))
    if not is_first_process():
        for _ in tensors:  # each of which all processes make together
            pass
        return
    with atomic_folder(folder, marker=CONFIG) as new:
        write_weights(tensors, new)
        model.processor.save(new)
        write_json(new / CONFIG, config)
        if added:
            lora.save_lora(model, added, new / lora.FOLDER)
        # safetensors writes for the owner's eyes only; a model is shared as its other files are.
        for path in new.glob("*.safetensors"):
            shutil.copymode(new / CONFIG, path)


def load_model(folder: str | Path) -> LocVLM:
    """The model that `save_model` wrote, or a LLaVA, in evaluation mode. No code is unpickled.

    Raises:
        CheckpointError: not a model folder, or its weights do not fit its architecture.
    """
    if is_llava(folder):
        return load_llava(folder)
    config = read_config(folder)
    parts = {name: build(config[name]) for name in PARTS}
    model = LocVLM(**parts, processor=Processor.load(folder))
    _fill(model, folder)
    return model.eval()


def load_processor(folder: str | Path) -> Processor:
    """The processor of a model that `load_model` loads.

    Raises:
        CheckpointError: not a model folder, or its files cannot be read.
    """
    if is_llava(folder):
        return llava_processor(folder)
    read_config(folder)
    return Processor.load(folder)


def model_from(folder: str | Path, processor: Processor, make: Callable[[], LocVLM]) -> LocVLM:
    """A model to train on: a LLaVA as it is, or a new one with the weights of a model folder.

    A LLaVA's language model, and any that was made without weights, gets them by `read_parts`.

    Args:
        folder: of either.
        processor: of the new model; it speaks the token ids of `load_processor(folder)`.
        make: makes the new model, where the folder is none of a LLaVA.

    Raises:
        CheckpointError: as in `load_weights`.
    """
    if is_llava(folder):
        return empty_llava(folder, processor)
    model = make()
    load_weights(model, folder)
    return model


def load_weights(model: LocVLM, folder: str | Path) -> None:
    """Gives `model` the weights of a model folder; everything else stays its own.

    Weights beneath LoRA and quantized ones stay too: they must be those that the saved model has.

    Raises:
        CheckpointError: not a model folder, its weights do not fit (names keys and shapes), or
            its token ids stand for other tokens.
    """
    config = read_config(folder)
    theirs = Processor.load(folder).tokenizer.get_vocab()
    ours = model.processor.tokenizer.get_vocab()
    if theirs != ours:
        other = sorted(token for token in ours if theirs.get(token) != ours[token])
        raise CheckpointError(
            f"its tokenizer is another one: {len(other)} of {len(ours)} tokens differ"
            + (f", such as {other[0]!r}" if other else ""),
            where=str(folder),
            fix="keep the tokenizer, and its bins, that the weights were trained with",
        )
    if lora.is_fixed(model):
        lora.check_fixed(model, config.get("fixed"), str(folder))
    _fill(model, folder)


def read_config(folder: str | Path) -> dict[str, Any]:
    """config.json of a model folder.

    Raises:
        CheckpointError: not a model folder, or one of another program or version.
    """
    path = Path(folder) / CONFIG
    if not path.is_file():
        in_run = Path(folder) / "model"  # `folder` may be that of the run
        raise CheckpointError(
            f"no {CONFIG} here" if Path(folder).is_dir() else "no such folder",
            where=str(folder),
            fix=f"give {in_run}"
            if (in_run / CONFIG).is_file()
            else "give the folder of a saved model, such as runs/<name>/model, or of a LLaVA (hf "
            "download llava-hf/llava-1.5-7b-hf --local-dir FOLDER)",
        )
    try:
        config = read_json(path)
    except DataError as error:
        raise CheckpointError(error.what, where=error.where, fix="copy the folder again") from error
    if not isinstance(config, dict) or not {"format", *PARTS} <= config.keys():
        kind = config.get("model_type") if isinstance(config, dict) else None
        raise CheckpointError(
            "this is a model of another kind" + (f": {kind}, of transformers" if kind else ""),
            where=str(path),
            fix="give the folder of a model that locvlm saved, such as runs/<name>/model, or of a "
            "LLaVA",
        )
    if config["format"] != FORMAT:
        raise CheckpointError(
            f"format {config['format']}, this version reads {FORMAT}",
            where=str(path),
            fix=f"load it with locvlm {config.get('locvlm')}",
        )
    return config


def _fill(model: LocVLM, folder: str | Path) -> None:
    """Reads all weights of `model`; refuses those of another architecture."""
    wanted, found = own_tensors(model), read_folder(folder)
    if lora.is_fixed(model):
        wanted = {name: tensor for name, tensor in wanted.items() if lora.is_kept(name)}
        found = {name: tensor for name, tensor in found.items() if lora.is_kept(name)}
        if lora.has_lora(model):
            alone = read_weights(Path(folder) / lora.FOLDER / lora.WEIGHTS)
            found |= {lora.own_name(key): tensor for key, tensor in alone.items()}
    fill(wanted, found, str(folder))


def _node(part: TimmEncoder | Adapter) -> dict[str, Any]:
    kind = type(part)
    return {"_target_": f"{kind.__module__}.{kind.__qualname__}", **part.config()}
