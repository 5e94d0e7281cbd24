import pytest

from locvlm.dialects import llava
from locvlm.errors import DataError
from locvlm.types import Box, Point

SIZE = (640, 480)


def test_llava_counts_from_the_corner_of_the_padded_square():
    parts = llava().read("Describe [0.25, 0.3, 0.5, 0.75].", SIZE)
    assert parts == ("Describe ", Box(160, 112, 320, 400), ".")
    assert llava().write(parts, SIZE) == "Describe [0.25, 0.3, 0.5, 0.75]."


def test_llava_has_no_points():
    with pytest.raises(DataError, match="boxes only"):
        llava().write([Point(10, 10)], SIZE)
