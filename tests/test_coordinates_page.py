"""The table in docs/coordinates.md is what the code gives."""

from pathlib import Path

from locvlm import dialects
from locvlm.arguments import option_names
from locvlm.dialects import Phrase
from locvlm.types import Box

PAGE = Path(__file__).parents[1] / "docs" / "coordinates.md"
SIZE = (640, 480)
COLUMNS = ("name", "numbers", "a cat at (160, 112, 320, 400)", "the whole image", "worst error")


def table():
    """One line for each dialect of text: written, and what rounding costs at 640 x 480."""
    yield f"| {' | '.join(COLUMNS)} |"
    yield "|---" * len(COLUMNS) + "|"
    for name in option_names("dialect"):
        if name == "swift":  # its boxes are no text
            continue
        make = getattr(dialects, name)
        dialect = make()
        cat = dialect.write([Phrase("cat"), Box(160, 112, 320, 400)], SIZE)
        whole = dialect.write([Box(0, 0, *SIZE)], SIZE)
        x, y = dialect.worst_error(SIZE)
        cells = f"`{name}`", make.__doc__.splitlines()[0], f"`{cat}`", f"`{whole}`"
        escaped = (cell.replace("|", "\\|") for cell in cells)
        yield f"| {' | '.join(escaped)} | {x:.2f}, {y:.2f} px |"


def test_the_page_holds_the_table_as_the_code_gives_it():
    expected = "\n".join(table())
    assert expected in PAGE.read_text(), f"docs/coordinates.md should hold:\n{expected}"
