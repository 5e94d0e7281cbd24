from locvlm.data.quarantine import Quarantine
from locvlm.evaluation.benchmarks.scenes import SceneSource
from locvlm.scenes import World, scenes


def test_gives_the_test_scenes_of_a_seed_with_their_annotations():
    quarantine = Quarantine()
    world = World()
    drawn = list(SceneSource(world, 3, seed=5).read(quarantine))
    assert drawn == [scene.sample() for scene in scenes(world, "test", 3, 5)]
    assert all(sample.instances and sample.absent for sample in drawn)
    assert len(quarantine) == 0
