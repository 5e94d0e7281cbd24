"""Optimizers and schedules, each a plain function or class that a config names."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from locvlm.errors import ConfigError
from locvlm.models.quantization import bitsandbytes

Named = tuple[str, nn.Parameter]


def adamw(
    parameters: Sequence[Named],
    *,
    lr: float,
    weight_decay: float = 0.0,
    betas: Sequence[float] = (0.9, 0.999),
    rates: Mapping[str, float] | None = None,
    fused: bool = True,
) -> torch.optim.AdamW:
    """AdamW, with a learning rate of its own for some parts.

    Args:
        parameters: (name, parameter) pairs.
        lr: learning rate.
        weight_decay: of all but norms and biases.
        betas: as in AdamW.
        rates: learning rates of parts, by the beginning of their parameters' names, such as
            `adapter: 2e-5`.
        fused: all in one pass over the weights; False for float16 with clipped gradients, which
            Lightning does not let fused optimizers have.

    Raises:
        ConfigError: a name in `rates` begins none of the parameters' names.
    """
    groups = _groups(parameters, lr, weight_decay, rates or {})
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(betas[0], betas[1]), fused=fused)
    # Lightning refuses to clip the gradients of an optimizer that could unscale them, even in bf16.
    optimizer._step_supports_amp_scaling = False
    return optimizer


def adamw8bit(
    parameters: Sequence[Named],
    *,
    lr: float,
    weight_decay: float = 0.0,
    betas: Sequence[float] = (0.9, 0.999),
    rates: Mapping[str, float] | None = None,
    paged: bool = False,
) -> Optimizer:
    """AdamW whose two moments take 2 bytes per weight in place of 8; by bitsandbytes.

    Tensors of fewer than 4,096 weights keep moments in float32.

    Args:
        parameters: as in `adamw`, and so are `lr`, `weight_decay`, `betas` and `rates`.
        lr: learning rate.
        weight_decay: of all but norms and biases.
        betas: as in AdamW.
        rates: learning rates of parts.
        paged: lets moments move to the computer's memory where the GPU's is full.

    Raises:
        ConfigError: as in `adamw`, or bitsandbytes is missing.

    Source: Dettmers et al., 8-bit Optimizers via Block-wise Quantization, ICLR 2022.
    """
    bnb = bitsandbytes()
    kind = bnb.optim.PagedAdamW8bit if paged else bnb.optim.AdamW8bit
    groups = _groups(parameters, lr, weight_decay, rates or {})
    optimizer: Optimizer = kind(groups, lr=lr, betas=(betas[0], betas[1]))
    return optimizer


def _groups(
    parameters: Sequence[Named], lr: float, weight_decay: float, rates: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Parameters of one rate and decay together."""
    for part in rates:
        if not any(name.startswith(part) for name, _ in parameters):
            raise ConfigError(
                f"nothing that is trained has a name that begins with {part!r}",
                where="optimizer.rates",
                fix="give parts that the stage trains, such as adapter",
            )
    groups: dict[tuple[float, float], list[Named]] = {}
    for name, parameter in parameters:
        own = [rate for part, rate in rates.items() if name.startswith(part)]
        decay = weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((own[0] if own else lr, decay), []).append((name, parameter))
    return [
        {"params": members, "lr": rate, "weight_decay": decay}
        for (rate, decay), members in groups.items()
    ]


class MuonAdamW(Optimizer):
    """Muon for the hidden matrices and AdamW for the rest, as one optimizer.

    Muon turns each matrix's momentum into the nearest orthogonal one. That suits layers between
    hidden states; embeddings, heads, norms and biases take AdamW.

    Args:
        parameters: (name, parameter) pairs.
        lr: Muon's learning rate.
        adamw_lr: AdamW's.
        momentum: Muon's.
        betas: AdamW's.
        weight_decay: of both.
        others: matrices whose names hold one of these words take AdamW as well.

    Source: Jordan et al., Muon (2024), github.com/KellerJordan/Muon.
    """

    def __init__(
        self,
        parameters: Sequence[Named],
        *,
        lr: float,
        adamw_lr: float,
        momentum: float = 0.95,
        betas: Sequence[float] = (0.9, 0.95),
        weight_decay: float = 0.0,
        others: Sequence[str] = ("embed", "head", "adapter"),
    ):
        parameters = list(parameters)
        matrices: list[Named] = []
        rest: list[Named] = []
        for name, parameter in parameters:
            hidden = parameter.ndim == 2 and not any(word in name for word in others)
            (matrices if hidden else rest).append((name, parameter))
        self._inner: list[Optimizer] = []
        if matrices:
            self._inner.append(
                torch.optim.Muon(matrices, lr=lr, momentum=momentum, weight_decay=weight_decay)
            )
        if rest:
            self._inner.append(
                torch.optim.AdamW(
                    rest, lr=adamw_lr, betas=(betas[0], betas[1]), weight_decay=weight_decay
                )
            )
        super().__init__([group for one in self._inner for group in one.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Lets the inner optimizers work on this one's groups and state.

        So schedules, gradient clipping and checkpoints see a single ordinary optimizer.
        """
        for one, group in zip(self._inner, self.param_groups, strict=True):
            one.param_groups = [group]
            one.state = self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As in any optimizer."""
        super().load_state_dict(state_dict)
        self._share()

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of all parameters."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for one in self._inner:
            one.step()
        return loss


def cosine(optimizer: Optimizer, n_steps: int, *, warmup: float = 0.03) -> LambdaLR:
    """Linear warm-up, then half a cosine down to 0.

    Args:
        optimizer: whose learning rates are scheduled.
        n_steps: optimizer steps in all.
        warmup: share of the steps that warm up.
    """
    n_warmup = warmup * n_steps

    def factor(step: int) -> float:
        if step + 1 < n_warmup:
            return (step + 1) / n_warmup
        progress = (step - n_warmup) / max(1.0, n_steps - n_warmup)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, progress))))

    return LambdaLR(optimizer, factor)


def wsd(
    optimizer: Optimizer, n_steps: int, *, warmup: float = 0.03, decay: float = 0.3
) -> LambdaLR:
    """Warm-up, stable, decay: linear up, then level, then linear down to 0.

    Args:
        optimizer: whose learning rates are scheduled.
        n_steps: optimizer steps in all.
        warmup: share of the steps that warm up.
        decay: share of the steps that decay, at the end.
    """

    def factor(step: int) -> float:
        up = (step + 1) / max(1.0, warmup * n_steps)
        down = (n_steps - step) / max(1.0, decay * n_steps)
        return max(0.0, min(1.0, up, down))

    return LambdaLR(optimizer, factor)
