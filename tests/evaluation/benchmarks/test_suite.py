import json
from dataclasses import replace

import pytest

from locvlm.data.readers.coco import CocoReader
from locvlm.errors import ConfigError, DataError
from locvlm.evaluation.benchmarks.localization import Localization
from locvlm.evaluation.benchmarks.regions import Regions
from locvlm.evaluation.benchmarks.suite import Suite
from tests.evaluation.conftest import answered, read, values

PARTS = {
    "localization": Localization(["Where is {category} in terms of {repr}?"]),
    "regions": Regions(["What is at {location}?"]),
}


class Given:
    """A source of samples at hand."""

    sources = ()

    def __init__(self, *samples):
        self.samples = samples

    def read(self, quarantine):
        return iter(self.samples)


def test_all_parts_ask_about_the_same_images_and_score_their_own_answers(sample):
    suite = Suite("both", Given(sample), PARTS)
    questions = suite.questions()
    assert [question.key.split("/")[0] for question in questions] == [
        *["localization"] * 3,
        *["regions"] * 2,
    ]
    score = suite.score(answered(questions, lambda _: "a cat [70, 70, 90, 90]"), read)
    assert values(score)["localization.category.acc_at_0_5"] == 0.5
    assert values(score)["regions.category"] == 0.5
    assert score.counts == {
        "localization: images": 1,
        "localization: questions": 3,
        "regions: images": 1,
        "regions: questions": 2,
    }


def test_the_protocol_holds_that_of_each_part_as_json(sample):
    suite = Suite("both", Given(sample), PARTS)
    assert set(json.loads(json.dumps(suite.protocol))) == {"localization", "regions"}


def test_images_that_cannot_be_decoded_are_left_out_and_counted(sample):
    torn = replace(sample, key="torn", image=sample.image[:-30])
    suite = Suite("both", Given(sample, torn), PARTS)
    assert [kept.key for kept in suite.samples] == ["photo"]
    score = suite.score(answered(suite.questions(), lambda _: ""), read)
    [reason] = [key for key in score.counts if key.startswith("left out")]
    assert score.counts[reason] == 1


def test_refuses_to_measure_on_nothing(sample):
    torn = replace(sample, image=b"no image")
    with pytest.raises(DataError, match="no image can be used: 1 x not an image"):
        Suite("both", Given(torn), PARTS)
    with pytest.raises(DataError, match="no image can be used: there are none"):
        Suite("both", Given(), PARTS)


def test_refuses_a_benchmark_without_parts(sample):
    with pytest.raises(ConfigError, match="'none' has no parts"):
        Suite("none", Given(sample), {})


def test_real_photos_are_asked_about_and_missing_ones_counted(real_data):
    coco = real_data / "coco"
    reader = CocoReader(
        str(coco / "instances_val2014_100images.json"), str(coco / "images"), n_negatives=2
    )
    suite = Suite("coco", reader, PARTS)
    assert len(suite.samples) == 5
    assert suite.left_out == {"image file is missing": 95}
    assert suite.questions()
