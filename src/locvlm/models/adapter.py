"""The adapter: patch features to image tokens of the language model."""

from typing import Any

from torch import Tensor, nn

from locvlm.errors import ConfigError
from locvlm.models.files import read_weights
from locvlm.models.llava_keys import ADAPTER, own_name
from locvlm.models.weights import fill, own_tensors


class Adapter(nn.Module):
    """One linear layer (LLaVA-v1, LocVLM-B) or two with a GELU between (LLaVA-1.5, LocVLM-L).

    Args:
        encoder_width: E, numbers per patch feature.
        language_width: D, numbers per token embedding.
        layers: 1 or 2.
        pretrained: file with its weights, such as LLaVA's `mm_projector.bin` of stage 1; None for
            random ones.

    Raises:
        ConfigError: `layers` is neither.
        CheckpointError: the file cannot be read, or holds something else than this adapter.
    """

    def __init__(
        self,
        encoder_width: int,
        language_width: int,
        layers: int = 1,
        pretrained: str | None = None,
    ):
        super().__init__()
        if layers not in (1, 2):
            raise ConfigError(f"an adapter has 1 or 2 layers, not {layers}", where="model.adapter")
        self.encoder_width, self.language_width, self.layers = encoder_width, language_width, layers
        first = nn.Linear(encoder_width, language_width)
        rest = [nn.GELU(), nn.Linear(language_width, language_width)] if layers == 2 else []
        self.net = nn.Sequential(first, *rest)
        if pretrained is not None:
            found = {
                own_name(name).removeprefix(ADAPTER): tensor.float()
                for name, tensor in read_weights(pretrained).items()
            }
            fill(own_tensors(self.net), found, pretrained)

    def forward(self, features: Tensor) -> Tensor:
        """(N, P, E) to (N, P, D)."""
        out: Tensor = self.net(features)
        return out

    def config(self) -> dict[str, Any]:
        """The arguments that build this architecture again, without its weights."""
        return {
            "encoder_width": self.encoder_width,
            "language_width": self.language_width,
            "layers": self.layers,
        }
