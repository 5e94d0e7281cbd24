"""The stage that trains a fresh encoder: each patch names the object that it shows."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from locvlm.models import LocVLM
from locvlm.training.callbacks import shown_each_step
from locvlm.training.module import LocVLMModule, MakeOptimizer, MakeScheduler

if TYPE_CHECKING:
    from locvlm.data.patches import PatchBatch


class EncoderModule(LocVLMModule):
    """Trains the encoder of a `LocVLM` to tell what each patch shows, and where the patch is.

    It stands in for the pre-training that CLIP's weights come with. Without it a tiny model stays
    blind: names cannot be bound to objects that the features do not tell apart. The linear heads
    are thrown away afterwards.

    Args:
        model: whose encoder learns.
        optimizer: as in `LocVLMModule`.
        scheduler: as in `LocVLMModule`.
        trained: the encoder; the rest of the model takes no part.
        words: groups of words, as in `PatchDataModule`.
        position_weight: what the patch's own row and column weigh in the loss. A classifier has
            no use for them and forgets them, but they are what coordinates are read from.
    """

    model: LocVLM
    places: Tensor

    def __init__(
        self,
        model: LocVLM,
        optimizer: MakeOptimizer,
        scheduler: MakeScheduler | None = None,
        trained: Sequence[str] = ("encoder",),
        *,
        words: Mapping[str, Sequence[str]],
        position_weight: float = 2.0,
    ):
        super().__init__(model, optimizer, scheduler, trained)
        width = model.encoder.width
        self.heads = nn.ModuleList(nn.Linear(width, len(group) + 1) for group in words.values())
        self.position_head = nn.Linear(width, 2)
        self.position_weight = position_weight
        side = torch.linspace(-1, 1, round(model.encoder.n_patches**0.5))
        places = torch.stack(torch.meshgrid(side, side, indexing="ij"), dim=-1).flatten(0, 1)
        self.places: Tensor
        self.register_buffer("places", places, persistent=False)

    def training_step(self, batch: "PatchBatch", batch_idx: int) -> Tensor:
        """The loss of a batch; logs the accuracy on patches that show an object."""
        features = self.model.features(batch["pixel_values"])
        labels = batch["labels"]
        loss = self.position_weight * F.mse_loss(
            self.position_head(features), self.places.expand(len(features), -1, -1)
        )
        right = torch.ones_like(labels[:, 0], dtype=torch.bool)
        for group, head in enumerate(self.heads):
            logits = head(features)
            loss = loss + F.cross_entropy(logits.flatten(0, 1), labels[:, group].flatten())
            right &= logits.argmax(-1) == labels[:, group]
        shown = labels.amax(dim=1) > 0
        # Not picked by the mask, which would wait for the device to tell how many there are.
        accuracy = (right & shown).sum() / shown.sum().clamp(min=1)
        told = {"train/loss": loss, "train/patch_accuracy": accuracy}
        in_bar = shown_each_step(self)
        self.log_dict(told, prog_bar=in_bar, sync_dist=True, batch_size=len(features))
        return loss
