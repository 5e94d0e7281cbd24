"""The built-in world as a benchmark's source of images."""

from collections.abc import Iterator
from dataclasses import dataclass

from locvlm.data.quarantine import Quarantine
from locvlm.scenes import Split, World, scenes
from locvlm.types import Sample


@dataclass(frozen=True, slots=True)
class SceneSource:
    """Scenes of a split that training never sees, drawn anew: no files are needed.

    Args:
        world: what scenes look like.
        count: number of scenes.
        seed: gives other scenes; with the seed of training they are those of its test folder.
        split: of the world; no layout is in two splits, whatever the seed.
    """

    world: World
    count: int
    seed: int = 0
    split: Split = "test"

    @property
    def sources(self) -> list[str]:
        """None."""
        return []

    def read(self, quarantine: Quarantine) -> Iterator[Sample]:
        """All scenes; none is ever left out."""
        for scene in scenes(self.world, self.split, self.count, self.seed):
            yield scene.sample()
