"""A callback that lets training read the features of images instead of encoding them."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader

from locvlm.data.features import Features, Missing, together
from locvlm.data.module import LocVLMDataModule
from locvlm.errors import ConfigError
from locvlm.geometry import crop, pad, resize
from locvlm.io import sha256, write_json
from locvlm.models import TimmEncoder
from locvlm.models.dtypes import to_dtype
from locvlm.processor import Processor

logger = logging.getLogger(__name__)
ABOUT = "about.json"
_EVERY = 10_000  # images between two lines in the log


class CacheFeatures(Callback):
    """Encodes each image of a stage's data once, on disk, where the encoder is frozen.

    Before the stage begins, images whose features are not in `folder` yet are encoded, all ranks
    sharing the work. From then on workers read features in place of decoding images, and the
    encoder rests. Runs with the same encoder, frame and images share what is there.

    Args:
        folder: seen by all machines that train; features of another encoder, or of images that are
            laid into the frame in another way, go into a folder of their own in it.
        dtype: of the numbers: `bfloat16`, `float16` or `float32`. In `float32` losses are those
            without a cache.
        batch_size: images that are encoded at once.

    Raises:
        ConfigError: `dtype` is none of these.
    """

    def __init__(self, folder: str, dtype: str = "bfloat16", batch_size: int = 32):
        self.dtype = to_dtype(dtype, "callbacks.features.dtype")
        self.folder, self.batch_size = folder, batch_size

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Encodes what is missing, before weights are sharded.

        Raises:
            ConfigError: the encoder learns, or an image may be seen in another way each time.
        """
        if stage != "fit":
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        model: Any = pl_module.model
        encoder = model.encoder
        _check_fixed(encoder, data)
        features = open_features(self.folder, encoder, data.processor, self.dtype)
        missing = Missing(data.shards(), data.processor, features)
        if trainer.is_global_zero:
            _tell_size(features, len(missing))
        loader = DataLoader(
            missing,
            self.batch_size,
            sampler=range(trainer.global_rank, len(missing), trainer.world_size),
            num_workers=data.num_workers,
            collate_fn=together,
        )
        fill(features, encoder, loader, trainer.strategy.root_device)
        trainer.strategy.barrier()
        data.look = features


def open_features(
    folder: str | Path, encoder: TimmEncoder, processor: Processor, dtype: torch.dtype
) -> Features:
    """The cache of one encoder for the images that one processor makes.

    Its name follows from all that features depend on beside the image; a file in it says what.

    Args:
        folder: in which the cache has its own.
        encoder: its weights, the layer that is read, and its colours count.
        processor: its geometry, its image size and how it decodes count.
        dtype: of the numbers.
    """
    weights = [
        f"{name} {sha256(tensor.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())}"
        for name, tensor in sorted(encoder.state_dict().items())
    ]
    frame = {"geometry", "image_size", "mean", "reduced_decode"}
    about = {
        "dtype": str(dtype).removeprefix("torch."),
        "encoder": encoder.config(),
        "frame": {key: value for key, value in processor.config().items() if key in frame},
        "weights": sha256("\n".join(weights).encode()),
    }
    own = Path(folder) / sha256(json.dumps(about, sort_keys=True).encode())[:16]
    write_json(own / ABOUT, about)
    return Features(own, (encoder.n_patches, encoder.width), dtype)


def fill(features: Features, encoder: TimmEncoder, loader: Any, device: torch.device) -> None:
    """Encodes the images that `loader` gives, and keeps their features.

    Raises:
        ConfigError: the type that they are kept in is too small for them.
        LocVLMError: the folder cannot be written.
    """
    n_images, home = 0, next(encoder.parameters()).device
    encoder.to(device)
    is_half = features.dtype != torch.float32
    with torch.no_grad(), torch.autocast(device.type, features.dtype, enabled=is_half):
        for names, images in loader:
            if not names:
                continue
            found = encoder(images.to(device)).to(features.dtype).cpu()
            if not bool(found.isfinite().all()):
                raise ConfigError(
                    f"features of this encoder do not fit into {features.dtype}",
                    where="callbacks.features.dtype",
                    fix="choose bfloat16 or float32",
                )
            for name, one in zip(names, found, strict=True):
                features.write(name, one)
            before, n_images = n_images, n_images + len(names)
            if before // _EVERY < n_images // _EVERY:
                logger.info("encoded %s images", f"{n_images:,}")
    encoder.to(home)


def _check_fixed(encoder: TimmEncoder, data: Any) -> None:
    if any(parameter.requires_grad for parameter in encoder.parameters()):
        raise ConfigError(
            "this stage trains the encoder, so an image's features change at every step",
            where="callbacks.features",
            fix="give callbacks=default for this stage: run=[align] with the cache first, then all "
            "stages without it and with ckpt_path=last",
        )
    if not isinstance(data, LocVLMDataModule):
        raise ConfigError(
            f"{type(data).__name__} has no shards whose images could be encoded",
            where="callbacks.features",
            fix="give callbacks=default",
        )
    if data.processor.geometry not in (resize, pad, crop):
        raise ConfigError(
            "this geometry may show an image in another way each time",
            where="callbacks.features, processor.geometry",
            fix="choose resize, pad or crop, or give callbacks=default",
        )


def _tell_size(features: Features, n_images: int) -> None:
    free = shutil.disk_usage(features.folder).free / 2**30
    most = n_images * features.n_bytes / 2**30
    logger.info(
        "features of up to %s images take up to %.1f GiB in %s, where %.1f GiB are free",
        *(f"{n_images:,}", most, features.folder, free),
    )
