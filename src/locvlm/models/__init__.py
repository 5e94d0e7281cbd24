"""Encoder, adapter and language model, joined in one network."""

from locvlm.models.adapter import Adapter
from locvlm.models.encoder import TimmEncoder
from locvlm.models.locvlm import LocVLM

__all__ = ["Adapter", "LocVLM", "TimmEncoder"]
