"""Data: readers, shards, mixing, and the LightningDataModule that streams them."""

from locvlm.data.collate import Batch, collate
from locvlm.data.loader import BatchSampler, Loader
from locvlm.data.mixture import Draw, Mixture
from locvlm.data.module import LocVLMDataModule
from locvlm.data.patches import PatchBatch, PatchDataModule
from locvlm.data.quarantine import BadSamples, Quarantine
from locvlm.data.shard_writer import write_shards
from locvlm.data.shards import Shards
from locvlm.data.stream import Examples, Source

__all__ = [
    "BadSamples",
    "Batch",
    "BatchSampler",
    "Draw",
    "Examples",
    "Loader",
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
