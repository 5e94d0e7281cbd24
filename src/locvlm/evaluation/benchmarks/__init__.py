"""Benchmarks: what is asked, and how answers become metrics; one file for each kind."""

from locvlm.evaluation.benchmarks.hallucination import Hallucination
from locvlm.evaluation.benchmarks.localization import Localization
from locvlm.evaluation.benchmarks.regions import Regions
from locvlm.evaluation.benchmarks.scenes import SceneSource
from locvlm.evaluation.benchmarks.shards import ShardSource
from locvlm.evaluation.benchmarks.sides import Sides
from locvlm.evaluation.benchmarks.suite import Part, Source, Suite

__all__ = [
    "Hallucination",
    "Localization",
    "Part",
    "Regions",
    "SceneSource",
    "ShardSource",
    "Sides",
    "Source",
    "Suite",
]
