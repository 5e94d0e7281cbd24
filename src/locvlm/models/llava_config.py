"""What a LLaVA's folder says of itself, in transformers' layout or that of LLaVA's authors."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, CLIPVisionConfig, LlavaConfig, PreTrainedConfig

from locvlm.errors import CheckpointError, DataError
from locvlm.io import read_json
from locvlm.models.llava_keys import CLIP, TOWERS

CONFIG = "config.json"
IMAGES = "preprocessor_config.json"


@dataclass(frozen=True, slots=True)
class Llava:
    """What the configuration of a LLaVA says, whoever wrote it.

    Args:
        folder: where it stands.
        tower: where the vision tower's weights are, unless they are among all others.
        vision: of the vision tower, as transformers has it.
        text: of the language model, likewise.
        layer: of the vision tower that is read, counted from the end.
        activation: between the adapter's layers; None: it has one layer.
        images: how images become pixels, as in preprocessor_config.json.
    """

    folder: Path
    tower: Path | None
    vision: PreTrainedConfig
    text: PreTrainedConfig
    layer: int
    activation: str | None
    images: Mapping[str, Any]


def is_llava(folder: str | Path) -> bool:
    """Whether a folder's config.json is that of a LLaVA, in either layout."""
    try:
        config = read_json(Path(folder) / CONFIG)
    except DataError:  # whoever reads it next says what is wrong
        return False
    return isinstance(config, dict) and (
        config.get("model_type") == "llava" or "mm_vision_tower" in config
    )


def read_llava(folder: str | Path) -> Llava:
    """The configuration of a LLaVA, in either layout.

    Raises:
        CheckpointError: it is incomplete, or of a kind that a `LocVLM` cannot be.
    """
    folder = Path(folder)
    where = str(folder / CONFIG)
    try:
        config = read_json(folder / CONFIG)
        if "mm_vision_tower" in config:
            return _of_authors(folder, config, where)
        return _of_transformers(folder, config, where)
    except DataError as error:
        raise CheckpointError(
            error.what, where=error.where, fix="copy or download the folder again"
        ) from error
    except (AttributeError, KeyError, StrictDataclassError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"this is no configuration of a LLaVA: {' '.join(repr(error).split()):.200}",
            where=where,
        ) from error


def _of_transformers(folder: Path, raw: dict[str, Any], where: str) -> Llava:
    config: Any = LlavaConfig.from_dict(raw)
    layer = config.vision_feature_layer
    tower = TOWERS.get(config.vision_config.model_type, CLIP)
    taken = config.vision_feature_select_strategy
    _must_be("vision_feature_select_strategy", taken, {tower.strategy}, where)
    _must_be("vision_feature_layer", type(layer).__name__, {"int"}, where)
    _must_be("projector_hidden_act", config.projector_hidden_act, {"gelu", "relu", "linear"}, where)
    n_blocks = config.vision_config.num_hidden_layers
    if (folder / IMAGES).is_file():
        images = read_json(folder / IMAGES)
    else:  # transformers 5 keeps it within the processor's configuration
        images = read_json(folder / "processor_config.json")["image_processor"]
    return Llava(
        folder=folder,
        tower=None,
        vision=config.vision_config,
        text=config.text_config,
        layer=layer if layer < 0 else layer - (n_blocks + 1),
        activation=config.projector_hidden_act,
        images=images,
    )


def _of_authors(folder: Path, raw: dict[str, Any], where: str) -> Llava:
    """As the LLaVA repository saves: a language model's configuration with more keys in it."""
    projector = raw.get("mm_projector_type", "linear")
    aspect = raw.get("image_aspect_ratio") or "square"
    _must_be("mm_projector_type", projector, {"linear", "mlp2x_gelu"}, where)
    _must_be("image_aspect_ratio", aspect, {"square", "pad"}, where)
    _must_be(
        "mm_vision_select_feature", raw.get("mm_vision_select_feature", "patch"), {"patch"}, where
    )
    _must_be("mm_use_im_start_end", raw.get("mm_use_im_start_end", False), {False}, where)
    tower = _tower_folder(folder, raw["mm_vision_tower"])
    vision = read_json(tower / CONFIG)
    images = read_json(tower / IMAGES)
    text = AutoConfig.for_model(
        raw["model_type"].removeprefix("llava").removeprefix("_") or "llama",
        **{key: raw[key] for key in raw if key not in ("architectures", "model_type")},
    )
    return Llava(
        folder=folder,
        tower=tower,
        vision=CLIPVisionConfig.from_dict(vision.get("vision_config", vision)),
        text=text,
        layer=raw.get("mm_vision_select_layer", -2),
        activation="gelu" if projector == "mlp2x_gelu" else None,
        images=images | {"do_pad": aspect == "pad"},
    )


def _tower_folder(folder: Path, name: str) -> Path:
    """Folder of the CLIP that LLaVA's authors name and do not store."""
    inside = folder / Path(name).name
    for place in (inside, Path(name)):
        if (place / CONFIG).is_file():
            return place
    raise CheckpointError(
        f"the vision tower {name} is not here",
        where=f"{folder / CONFIG}, mm_vision_tower",
        fix=f"download it into this folder: hf download {name} --local-dir {inside}",
    )


def _must_be(key: str, value: Any, known: set[Any], where: str) -> None:
    if value not in known:
        raise CheckpointError(
            f"{key} is {value!r}: not a LLaVA that locvlm can be",
            where=f"{where}, {key}",
            fix=f"models with {' or '.join(map(str, sorted(known)))} can be loaded",
        )
