"""Attention inside each example of a packed row, in time that its own length costs.

transformers masks what an example must not see; scaled dot product attention still computes it, for
all pairs of a row's tokens. Here each example of a row is attended to on its own, causally, by the
kernels that need no mask.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward as _whole
from transformers.masking_utils import sdpa_mask

from locvlm.errors import ConfigError

NAME = "sdpa_by_example"
_packed: ContextVar[bool] = ContextVar("packed", default=False)


def attend_by_example(model: PreTrainedModel) -> PreTrainedModel:
    """Lets a causal LM that uses `sdpa` attend to the examples of packed rows one by one.

    Models whose layers look back a limited way keep transformers' masks.
    """
    config = model.config
    windows = getattr(config, "layer_types", None) or ["full_attention"]
    limited = set(windows) != {"full_attention"} or getattr(config, "use_sliding_window", None)
    if config._attn_implementation == "sdpa" and not limited and not _window(config):
        model.set_attn_implementation(NAME)
    return model


@contextmanager
def packed_rows() -> Iterator[None]:
    """Meanwhile position_ids say where examples begin, and no mask is made of them."""
    token = _packed.set(True)
    try:
        yield
    finally:
        _packed.reset(token)


def _window(config: Any) -> int | None:
    """How far a model without `layer_types` looks back, such as Mistral; None: to the beginning."""
    if getattr(config, "layer_types", None) is not None:
        return None
    window: int | None = getattr(config, "sliding_window", None)
    return window


def _mask(*args: Any, **kwargs: Any) -> Tensor | None:
    mask: Tensor | None = None if _packed.get() else sdpa_mask(*args, **kwargs)
    return mask


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """(R, H, T, d) heads to (R, T, H, d), as transformers' own functions do."""
    positions: Tensor | None = kwargs.get("position_ids")
    if _packed.get() and positions is None:
        raise ConfigError(
            f"{type(module).__name__} does not tell its attention where examples begin",
            where="model.language_model.attention",
            fix="set it to eager, or data.pack=false",
        )
    if attention_mask is not None or positions is None or query.shape[2] != key.shape[2]:
        return _whole(module, query, key, value, attention_mask, **kwargs)
    parts = _parts(positions, len(query))
    if len(parts) == len(query):
        return _whole(module, query, key, value, None, **kwargs)
    rows: list[list[Tensor]] = [[] for _ in query]
    for row, part in parts:
        here = slice(row, row + 1), slice(None), part
        seen, _ = _whole(module, query[here], key[here], value[here], None, **kwargs)
        rows[row].append(seen)
    return torch.cat([torch.cat(row, dim=1) for row in rows]), None


def _parts(positions: Tensor, n_rows: int) -> list[tuple[int, slice]]:
    """The examples of (R, T) positions, by row; the padding behind them counts as one."""
    positions = positions.expand(n_rows, -1)
    begins = positions == 0
    begins[:, 1:] &= positions[:, :-1] != 0  # padding has position 0 throughout
    begins[:, 0] = True
    starts = begins.nonzero().tolist()
    n_tokens = positions.shape[1]
    ends = [start if start else n_tokens for _, start in [*starts[1:], (0, 0)]]
    return [(row, slice(start, end)) for (row, start), end in zip(starts, ends, strict=True)]


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, _mask)
