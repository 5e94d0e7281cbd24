"""Readers: each yields samples from one format of files that users have."""

from locvlm.data.readers.coco import CocoReader
from locvlm.data.readers.coco_captions import CocoCaptionsReader
from locvlm.data.readers.ferret import FerretReader
from locvlm.data.readers.folder import FolderReader
from locvlm.data.readers.hub import HubReader
from locvlm.data.readers.llava import LlavaReader
from locvlm.data.readers.mdetr import MdetrReader
from locvlm.data.readers.panoptic import PanopticReader
from locvlm.data.readers.refcoco import RefCocoReader
from locvlm.data.readers.swift import SwiftReader
from locvlm.data.readers.visual_genome import VisualGenomeReader

__all__ = [
    "CocoCaptionsReader",
    "CocoReader",
    "FerretReader",
    "FolderReader",
    "HubReader",
    "LlavaReader",
    "MdetrReader",
    "PanopticReader",
    "RefCocoReader",
    "SwiftReader",
    "VisualGenomeReader",
]
