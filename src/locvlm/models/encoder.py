"""The vision encoder: any timm vision transformer, read out at one layer."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from locvlm.errors import CheckpointError, ConfigError
from locvlm.images import normalize
from locvlm.processor import Processor


class TimmEncoder(nn.Module):
    """Patch features of a timm ViT; class token, other prefix tokens and pooling are dropped.

    Args:
        name: timm's model name. OpenAI's CLIP weights need a `quickgelu` variant.
        image_size: side S of the square input, in pixels.
        patch_size: side of a patch, in pixels.
        layer: the block whose output is read, counted from the end; -2 as in LLaVA.
        norm: whether the features pass the encoder's final norm (off in LLaVA).
        pretrained: True for timm's own weights (hub or its cache), a local file with them
            (.safetensors; others are read without unpickling code), or False for random ones.
        mean: colour mean that the weights were trained with, for values 0 to 1.
        std: likewise.
        options: further arguments of the timm model, such as `embed_dim` and `depth`.
        init_scale: random weights are multiplied by it. timm draws them for wide models; a narrow
            one learns to tell categories apart in half the steps when they begin larger.

    Raises:
        ConfigError: timm does not know the model, or takes other sizes.
        CheckpointError: the weights cannot be had, or are of another architecture.
    """

    def __init__(
        self,
        name: str,
        image_size: int,
        patch_size: int,
        *,
        layer: int = -2,
        norm: bool = False,
        pretrained: bool | str = False,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
        options: Mapping[str, Any] | None = None,
        init_scale: float = 1.0,
    ):
        super().__init__()
        self.image_size, self.patch_size = image_size, patch_size
        self.layer, self.norm = layer, norm
        self.name, self.options = name, dict(options or {})
        self.mean, self.std = tuple(mean), tuple(std)
        arguments = {"img_size": image_size, **self.options}
        if pretrained is False:
            self.vit = _scale(_create(name, arguments | {"num_classes": 0}), init_scale)
        else:
            self.vit = _create_with_weights(name, arguments, pretrained)
        if not hasattr(self.vit, "num_prefix_tokens"):
            raise ConfigError(f"timm's {name} is no vision transformer", where="model.encoder.name")
        self.vit.reset_classifier(0, "")  # SigLIP's pooling has weights, which nothing here reads
        grid = tuple(self.vit.patch_embed.grid_size)
        if grid != (image_size // patch_size,) * 2:
            raise ConfigError(
                f"{name} makes {grid[0]} x {grid[1]} patches of {image_size} pixels, "
                f"not of {patch_size} pixels each",
                where="model.encoder.patch_size",
            )
        if not -len(self.vit.blocks) <= layer <= -1:
            raise ConfigError(
                f"layer {layer} of an encoder with {len(self.vit.blocks)} blocks",
                where="model.encoder.layer",
                fix=f"choose -1 (the last) to -{len(self.vit.blocks)} (the first)",
            )

    @property
    def width(self) -> int:
        """E, numbers per patch."""
        return int(self.vit.embed_dim)

    @property
    def n_patches(self) -> int:
        """P, patches per image."""
        return (self.image_size // self.patch_size) ** 2

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Images to (N, P, E) patch features, row by row.

        Args:
            pixel_values: (N, 3, S, S) uint8 as the processor makes them, or normalized floats; or
                (N, P, E) features that it gave before, which stay as they are.
        """
        dtype = next(self.parameters()).dtype
        if pixel_values.ndim == 3:
            return pixel_values.to(dtype)
        if pixel_values.dtype == torch.uint8:
            pixel_values = normalize(pixel_values, self.mean, self.std)
        features: Tensor
        [features] = self.vit.forward_intermediates(
            pixel_values.to(dtype),
            indices=[self.layer],
            norm=self.norm,
            stop_early=True,
            output_fmt="NLC",
            intermediates_only=True,
        )
        return features

    def config(self) -> dict[str, Any]:
        """The arguments that build this architecture again, without its weights."""
        return {
            "name": self.name,
            "image_size": self.image_size,
            "patch_size": self.patch_size,
            "layer": self.layer,
            "norm": self.norm,
            "mean": list(self.mean),
            "std": list(self.std),
            "options": self.options,
        }


def check_fits(processor: Processor, encoder: TimmEncoder) -> None:
    """Refuses a processor that makes other images than an encoder reads.

    Raises:
        ConfigError: names what differs.
    """
    made, read = processor.config(), encoder.config()
    wrong = [key for key in ("image_size", "patch_size", "mean", "std") if made[key] != read[key]]
    if wrong:
        what = [f"{key}: {made[key]} in the processor, {read[key]} in the encoder" for key in wrong]
        keys = " ".join(f"'model.encoder.{key}={read[key]}'" for key in wrong)
        fix = f"give {keys}; the processor takes over what it is not given itself"
        raise ConfigError("; ".join(what), where="processor, model.encoder", fix=fix)


@torch.no_grad()
def _scale(vit: Any, scale: float) -> Any:
    for parameter in vit.parameters():
        if parameter.ndim >= 2:
            parameter.mul_(scale)
    return vit


def _create(name: str, arguments: Mapping[str, Any]) -> Any:
    """`timm.create_model`, with our message where it does not know the name or an argument."""
    if not timm.is_model(name) and ":" not in name:  # "hf-hub:..." names a model by itself
        close = get_close_matches(name, timm.list_models(), n=3)
        raise ConfigError(
            f"timm has no model named {name!r}",
            where="model.encoder.name",
            fix=f"did you mean {' or '.join(close)}?" if close else "see timm.list_models('vit*')",
        )
    try:
        return timm.create_model(name, **arguments)
    except (TypeError, AssertionError) as error:
        raise ConfigError(
            f"timm cannot build {name}: {error}",
            where="model.encoder",
            fix="change image_size or options",
        ) from error


def _create_with_weights(name: str, arguments: Mapping[str, Any], pretrained: bool | str) -> Any:
    """The model with weights loaded by timm's own code, which knows many file layouts."""
    overlay: dict[str, Any] = {}
    if isinstance(pretrained, str):
        if not Path(pretrained).is_file():
            raise CheckpointError(
                f"no weights file {pretrained}",
                where="model.encoder.pretrained",
                fix="give a local safetensors file of the timm model, or true for timm's own",
            )
        overlay["file"] = pretrained
    # timm demands all keys only where it also demands a classifier. Weights that have none are
    # loaded on a second attempt, which demands all others.
    attempts: list[dict[str, Any]] = [
        {"pretrained_cfg_overlay": overlay},
        {"pretrained_cfg_overlay": overlay | {"num_classes": 0}, "num_classes": 0},
    ]
    failure = ""
    for attempt in attempts:
        try:
            vit = _create(name, {**arguments, **attempt, "pretrained": True})
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"the weights of {name} cannot be had: {error}",
                where="model.encoder.pretrained",
                fix="download them once on a machine with a network (timm.create_model(name, "
                "pretrained=True)) and give the file as model.encoder.pretrained=FILE",
            ) from error
        except RuntimeError as error:
            failure = "\n".join(line.strip()[:200] for line in str(error).splitlines()[:4])
            continue
        vit.reset_classifier(0)
        return vit
    raise CheckpointError(
        f"these weights are not of the architecture {name}: {failure}",
        where="model.encoder.pretrained",
        fix="choose the model.encoder.name that they were made for",
    )
