"""Puts a model where it runs."""

from typing import TypeVar

import torch
from torch import nn

from locvlm.errors import ConfigError

M = TypeVar("M", bound=nn.Module)


def on_device(model: M, device: str, dtype: torch.dtype | None = None) -> M:
    """The model on `device`; "auto" takes a GPU if there is one.

    Args:
        model: is changed, one weight after the other.
        device: such as "cuda:1".
        dtype: of its weights there; None: as they are.

    Raises:
        ConfigError: there is no such device.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return model.to(device, dtype)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise ConfigError(
            f"cannot run on device {device!r}: {str(error).splitlines()[0]}",
            where="device",
            fix="give predictor.device=cpu (to `predict`: --device cpu), or leave it at auto",
        ) from error
