"""A small world of drawn objects, generated from a seed: it stands in for COCO on a laptop."""

from locvlm.scenes.corpus import corpus
from locvlm.scenes.scene import SPLITS, Scene, Split, scenes
from locvlm.scenes.shapes import SHAPES
from locvlm.scenes.talk import SideTalk, Talk, Topics
from locvlm.scenes.topics import Color, Compare, Count, Listing, Presence, Shape, TakenAway
from locvlm.scenes.world import SceneObject, World
from locvlm.scenes.write import write_scenes

__all__ = [
    "SHAPES",
    "SPLITS",
    "Color",
    "Compare",
    "Count",
    "Listing",
    "Presence",
    "Scene",
    "SceneObject",
    "Shape",
    "SideTalk",
    "Split",
    "TakenAway",
    "Talk",
    "Topics",
    "World",
    "corpus",
    "scenes",
    "write_scenes",
]
