"""Small samples and shards of them."""

import io

import pytest
from PIL import Image

from locvlm.data import Quarantine, write_shards
from locvlm.objectives import LocPred, Mix, NegPred
from locvlm.types import Box, Instance, Message, Sample
from tests.tiny import make_processor

PROMPTS = ["Where is the object described {category}?", "Provide a {repr} for {category}?"]


def picture(n=0, size=(48, 40), kind="PNG"):
    """An encoded image; `n` gives another one."""
    image = Image.new("RGB", size, (n % 256, n // 256, 128))
    image.paste("white", (8, 8, 24, 24))
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def annotated(n):
    """An image with a circle, and no square."""
    return Sample(
        key=f"image {n}",
        source=f"annotations.json, image {n}",
        image=picture(n),
        size=(48, 40),
        instances=(Instance("circle", Box(8, 8, 24, 24), description="red circle"),),
        absent=("square",),
    )


def talked(n):
    """An image with a finished conversation."""
    return Sample(
        key=f"talk {n}",
        source=f"talk.json, record {n}",
        image=picture(n),
        size=(48, 40),
        messages=(Message("user", (f"Is it {n}?",)), Message("assistant", (f"It is {n}.",))),
        extra={"kind": "conversation"},
    )


@pytest.fixture(scope="session")
def processor():
    return make_processor()


@pytest.fixture(scope="session")
def objective():
    return Mix([LocPred(PROMPTS), NegPred(PROMPTS)], [1, 1], turns=1)


@pytest.fixture
def shards(tmp_path):
    """Writes samples as shards and gives their folder."""

    def write(samples, name="shards", per_shard=4):
        folder = tmp_path / name
        write_shards(samples, folder, quarantine=Quarantine(), per_shard=per_shard)
        return folder

    return write
