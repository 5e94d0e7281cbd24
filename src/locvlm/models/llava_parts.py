"""What a `LocVLM` may have and LLaVA's classes have no place for, put into what they have.

transformers' LLaVA has two layers in its adapter, and reads its encoder at the last layer but one,
without a norm. One layer, another layer and a final norm can be said in these terms with the same
result, so that plain transformers needs no code of ours.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from locvlm.errors import CheckpointError

# A power of 2: multiplying by it is exact, and what it is added to vanishes beside it.
SCALE = 2.0**24


def blocks_read_last_but_one(
    tensors: Mapping[str, Tensor], n_blocks: int, layer: int, *, norm: bool
) -> tuple[dict[str, Tensor], int]:
    """A timm ViT of whose blocks the last but one gives what `layer` (and the norm) gave.

    Blocks after `layer` go, up to one. A norm becomes a block of its own that adds it, times
    `SCALE`, to what it norms.

    Args:
        tensors: timm's, by name.
        n_blocks: how many blocks there are.
        layer: the block that is read, counted from the end.
        norm: whether the final norm follows.

    Returns:
        Its tensors, and its number of blocks.
    """
    n_read = n_blocks + layer + 1
    blocks = [_block(tensors, n) for n in range(min(n_blocks, n_read + 1))]
    if norm:
        blocks.insert(n_read, _norm_block(tensors))
        n_read += 1
    if len(blocks) == n_read:
        blocks.append(_idle_block(tensors))
    found = {name: tensor for name, tensor in tensors.items() if not name.startswith("blocks.")}
    for n, block in enumerate(blocks):
        found |= {f"blocks.{n}.{name}": tensor for name, tensor in block.items()}
    return found, len(blocks)


def both_signs(like: Tensor) -> Tensor:
    """(M, E) whose product with x is x, then -x, then zeros.

    gelu(x) - gelu(-x) = x, and so with quick GELU and ReLU: a layer with this matrix, an activation
    and a layer that takes the second part from the first change nothing.

    Args:
        like: has its shape and type; M is at least 2 E.
    """
    n_rows, n_columns = like.shape
    unit = torch.eye(n_columns, dtype=like.dtype, device=like.device)
    return torch.cat([unit, -unit, like.new_zeros(n_rows - 2 * n_columns, n_columns)])


def two_layers(net: nn.Sequential) -> tuple[str, dict[str, Tensor]]:
    """An adapter as two layers, with the name of the activation between them.

    One layer becomes two with ReLU between where the width allows it, which servers such as vLLM
    know as well; else nothing stands between (`linear`, of transformers only).
    """
    tensors = {name: tensor.detach() for name, tensor in net.state_dict().items()}
    if len(net) > 1:
        return "gelu", tensors
    weight, bias = tensors["0.weight"], tensors["0.bias"]
    language_width, encoder_width = weight.shape
    if language_width < 2 * encoder_width:
        unit = torch.eye(language_width, dtype=weight.dtype, device=weight.device)
        return "linear", tensors | {"2.weight": unit, "2.bias": torch.zeros_like(bias)}
    rest = weight.new_zeros(language_width, language_width - 2 * encoder_width)
    return "relu", {
        "0.weight": both_signs(weight),
        "0.bias": torch.zeros_like(bias),
        "2.weight": torch.cat([weight, -weight, rest], dim=1),
        "2.bias": bias,
    }


def one_layer(activation: str, tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """The one layer from which `two_layers` made two.

    Raises:
        CheckpointError: the two are not one.
    """
    first, second = tensors["0.weight"].float(), tensors["2.weight"].float()
    bias = second @ tensors["0.bias"].float() + tensors["2.bias"].float()
    if activation == "relu":
        width = first.shape[1]
        if not _is_linear(first, tensors["0.bias"], second):
            raise CheckpointError(
                "this adapter has ReLU between its layers, locvlm's have GELU", where=where
            )
        first, second = first[:width], second[:, :width]
    weight = (second @ first).to(tensors["0.weight"].dtype)
    return {"0.weight": weight, "0.bias": bias.to(weight.dtype)}


def _norm_block(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    block = _idle_block(tensors)
    return block | {
        # Copies, for a file holds no tensor twice.
        "norm2.weight": tensors["norm.weight"].clone(),
        "norm2.bias": tensors["norm.bias"].clone(),
        "mlp.fc1.weight": both_signs(block["mlp.fc1.weight"]),
        "mlp.fc2.weight": SCALE * both_signs(block["mlp.fc2.weight"].T).T,
    }


def _idle_block(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A block that adds nothing."""
    return {name: torch.zeros_like(tensor) for name, tensor in _block(tensors, 0).items()}


def _is_linear(first: Tensor, bias: Tensor, second: Tensor) -> bool:
    """Whether two layers with ReLU between do what `two_layers` says."""
    width = first.shape[1]
    return (
        len(first) >= 2 * width
        and torch.equal(first, both_signs(first) * first[0, 0])
        and torch.equal(second[:, width : 2 * width], -second[:, :width])
        and not bias.any()
    )


def _block(tensors: Mapping[str, Tensor], n: int) -> dict[str, Tensor]:
    start = f"blocks.{n}."
    return {
        name.removeprefix(start): tensor
        for name, tensor in tensors.items()
        if name.startswith(start)
    }
