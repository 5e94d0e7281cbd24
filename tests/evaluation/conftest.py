"""Annotated samples and answers written by hand, so that every metric is known beforehand."""

import io

import pytest
from PIL import Image

from locvlm.coordinates import IVB, parse
from locvlm.errors import ConfigError
from locvlm.evaluation.metrics.java import check_programs
from locvlm.geometry import resize
from locvlm.located import Located
from locvlm.predictors.ask import Answer
from locvlm.types import Box, Instance, Sample

SCHEME = IVB(100)  # on images of 100 x 100 pixels a bin is a pixel
DOG = Instance("dog", Box(10, 10, 30, 30), description="black dog")
CAT = Instance("cat", Box(70, 70, 90, 90))


def locate(text, size):
    parsed = parse(text, SCHEME)
    places = (resize(*size).from_frame(found.values) for found in parsed.found)
    return Located(tuple(places), parsed)


def read(answer):
    return locate(answer.text, answer.question.sample.size)


def answered(questions, text_of):
    """Answers by `text_of(question)`; closed questions take the candidate that it names."""
    return [Answer(question, text_of(question)) for question in questions]


def values(score):
    return {metric.key: metric.estimate.value for metric in score.metrics}


def counts(score):
    return {metric.key: metric.estimate.n for metric in score.metrics}


@pytest.fixture(scope="session")
def java_programs():
    """Skips where Java, or the package that brings the programs, is not installed."""
    try:
        return check_programs()
    except ConfigError as error:
        pytest.skip(str(error))


@pytest.fixture
def sample():
    buffer = io.BytesIO()
    Image.new("RGB", (100, 100), "grey").save(buffer, "PNG")
    return Sample(
        "photo",
        "by hand",
        image=buffer.getvalue(),
        size=(100, 100),
        instances=(DOG, CAT),
        absent=("bird", "cow", "red dog"),
    )
