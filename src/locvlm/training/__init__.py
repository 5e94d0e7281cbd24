"""Training of a model in stages, with Lightning."""

from locvlm.training.callbacks import Bar, RandomState
from locvlm.training.encoder import EncoderModule
from locvlm.training.features import CacheFeatures
from locvlm.training.guards import FiniteLoss, OutOfMemory
from locvlm.training.module import LocVLMModule
from locvlm.training.optim import MuonAdamW, adamw, adamw8bit, cosine, wsd
from locvlm.training.requeue import Requeue
from locvlm.training.stages import Stage, run_stages
from locvlm.training.strategies import FSDP
from locvlm.training.throughput import Throughput

__all__ = [
    "FSDP",
    "Bar",
    "CacheFeatures",
    "EncoderModule",
    "FiniteLoss",
    "LocVLMModule",
    "MuonAdamW",
    "OutOfMemory",
    "RandomState",
    "Requeue",
    "Stage",
    "Throughput",
    "adamw",
    "adamw8bit",
    "cosine",
    "run_stages",
    "wsd",
]
