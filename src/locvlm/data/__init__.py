"""Data: readers, shards, mixing, and the LightningDataModule that streams them."""

from locvlm.data.collate import Batch, collate
from locvlm.data.mixture import Mixture
from locvlm.data.module import LocVLMDataModule
from locvlm.data.patches import PatchBatch, PatchDataModule
from locvlm.data.quarantine import Quarantine
from locvlm.data.shards import Shards, write_shards
from locvlm.data.stream import EpochSampler, Examples, Source

__all__ = [
    "Batch",
    "EpochSampler",
    "Examples",
    "LocVLMDataModule",
    "Mixture",
    "PatchBatch",
    "PatchDataModule",
    "Quarantine",
    "Shards",
    "Source",
    "collate",
    "write_shards",
]
