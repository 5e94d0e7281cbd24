import pytest

from locvlm.dialects import cogvlm, kosmos2, qwen2_5_vl
from locvlm.dialects.numbers import ResizedPixels
from locvlm.errors import ConfigError
from locvlm.types import Box


@pytest.mark.parametrize(
    ("size", "limits", "resized"),
    [
        ((640, 480), (3136, 12_845_056), (644, 476)),
        ((4000, 3000), (3136, 1_003_520), (1148, 840)),
        ((30, 20), (3136, 12_845_056), (84, 56)),
        ((10, 2000), (784, 12_845_056), (28, 420)),
    ],
)
def test_images_are_resized_as_transformers_does_for_qwen(size, limits, resized):
    assert ResizedPixels(*limits).resized(size) == resized


def test_limits_that_no_image_meets_are_refused():
    with pytest.raises(ConfigError, match="no image has 5000 to 4000 pixels"):
        qwen2_5_vl(5000, 4000)


def test_cogvlm_has_three_digits_and_no_thousand():
    assert cogvlm().write([Box(0, 0, 640, 480)], (640, 480)) == "[[000,000,999,999]]"


@pytest.mark.parametrize(
    ("first", "last", "box"),
    [
        (0, 0, Box(0, 0, 20, 15)),  # one cell
        (0, 3, Box(0, 0, 80, 15)),  # a row
        (0, 96, Box(0, 0, 20, 60)),  # a column
        (0, 99, Box(10, 7.5, 70, 52.5)),  # from centre to centre
    ],
)
def test_kosmos_means_outer_edges_of_a_row_or_column_and_centres_elsewhere(first, last, box):
    text = f"<object><patch_index_{first:04d}><patch_index_{last:04d}></object>"
    assert kosmos2().read(text, (640, 480)) == (box,)
