"""Readers: each yields samples from one format of files that users have."""

from locvlm.data.readers.coco import CocoReader
from locvlm.data.readers.llava import LlavaReader

__all__ = ["CocoReader", "LlavaReader"]
