"""Loads a transformers image-text-to-text model with its processor, and says which one it is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from transformers import AutoModelForImageTextToText, AutoProcessor

from locvlm.errors import CheckpointError
from locvlm.predictors.device import on_device
from locvlm.predictors.folder import sha256_folder
from locvlm.predictors.generating import end_ids, speak_plainly


class Pretrained(NamedTuple):
    """A model in evaluation mode on its device, with its processor.

    Args:
        model: its `generate` says nothing but what it is asked for, see `speak_plainly`.
        processor: pads on the side that the model expects.
    """

    model: Any
    processor: Any


def load(
    model_id: str,
    *,
    revision: str | None = None,
    images: Mapping[str, Any] | None = None,
    dtype: str = "auto",
    attention: str | None = None,
    device: str = "auto",
) -> Pretrained:
    """A model from a local folder, or from the hub or its cache. No code that it brings is run.

    Args:
        model_id: folder or hub id.
        revision: of the hub's repository.
        images: settings of its image processor, in place of its own.
        dtype: of the weights; `auto`: as they are stored.
        attention: transformers' `attn_implementation`.
        device: such as `cuda:1`; `auto` takes a GPU if there is one.

    Raises:
        CheckpointError: there is no such model that can be had, or it lacks weights.
        ConfigError: there is no such device.
    """
    try:
        processor: Any = AutoProcessor.from_pretrained(
            model_id, revision=revision, trust_remote_code=False, **(images or {})
        )
        loaded: Any = AutoModelForImageTextToText.from_pretrained(
            model_id,
            revision=revision,
            dtype=dtype,
            attn_implementation=attention,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (ImportError, KeyError, OSError, TypeError, ValueError) as error:
        raise _cannot_load(model_id, error) from error
    model, info = loaded
    if missing := sorted(info["missing_keys"]):
        raise CheckpointError(
            f"it lacks {len(missing)} weights, such as {missing[0]}",
            where=model_id,
            fix="copy or download it again",
        )
    if not hasattr(processor, "image_processor"):
        raise CheckpointError("it brings no image processor", where=model_id)
    _prepare(model, processor)
    return Pretrained(on_device(model.eval(), device), processor)


def source(model_id: str, model: Any) -> dict[str, str]:
    """What tells a model from others: the hub's commit, or the hash of its folder's files."""
    if not Path(model_id).is_dir():
        return {"model_id": model_id, "commit": str(model.config._commit_hash)}
    return {"sha256": sha256_folder(model_id)}


def _prepare(model: Any, processor: Any) -> None:
    tokenizer = processor.tokenizer
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    config = model.config
    # An encoder counts the places from an image to the words: nothing may come between.
    encodes = config.is_encoder_decoder or config.get_text_config().is_encoder_decoder
    tokenizer.padding_side = "right" if encodes else "left"
    speak_plainly(model, tokenizer.pad_token_id)
    if not end_ids(model):
        model.generation_config.eos_token_id = [tokenizer.eos_token_id]


def _cannot_load(model_id: str, error: Exception) -> CheckpointError:
    if isinstance(error, ImportError):
        fix = "install what is missing"
    elif Path(model_id).is_dir():
        fix = "give a folder that `save_pretrained` wrote, or download it again"
    else:
        fix = (
            "give a hub id or a folder; without a network download it once elsewhere "
            f"(hf download {model_id} --local-dir FOLDER) and give predictor.model_id=FOLDER"
        )
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return CheckpointError(f"this model cannot be loaded: {first}", where=model_id, fix=fix)
