"""Asks a saved model about an image: `python -m locvlm.predict FOLDER photo.jpg "Where is it?"`.

Plain arguments, because free text does not survive Hydra's grammar.
"""

import argparse
import io
from collections.abc import Sequence
from pathlib import Path

from locvlm.cli import plain_errors, printable
from locvlm.errors import ConfigError
from locvlm.geometry import to_location
from locvlm.io import write_bytes
from locvlm.types import Box, Location, Message, Point, Question, Sample

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
DESCRIBE = "Describe the object located at {location}?"
EPILOG = """\
examples:
  python -m locvlm.predict runs/binned224/model photo.jpg "Where is the red circle?"
  python -m locvlm.predict runs/binned224/model photo.jpg --box 120 40 310 260
  python -m locvlm.predict runs/binned224/model photo.jpg "What is at {location}?" --point 200 150

Boxes and points that you give and get are in pixels of your image. Numbers that you type into the
question itself are passed on as they are: the model reads them in its own coordinate scheme.
"""


def parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    made = argparse.ArgumentParser(
        prog="python -m locvlm.predict",
        description="Ask a saved model about an image; see the answer and its boxes drawn.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("checkpoint", type=Path, help="folder of a saved model")
    made.add_argument("image", type=Path, help="image file")
    made.add_argument("question", nargs="?", help="what to ask; left out: what is at the location")
    place = made.add_mutually_exclusive_group()
    place.add_argument(
        "--box",
        nargs=4,
        type=float,
        metavar=("X1", "Y1", "X2", "Y2"),
        help="stands for {location} in the question, in pixels of the image",
    )
    place.add_argument("--point", nargs=2, type=float, metavar=("X", "Y"), help="likewise")
    made.add_argument(
        "--output", type=Path, help="picture to write; default: NAME-answer.png in this folder"
    )
    made.add_argument("--max-new-tokens", type=int, default=128, help="default: %(default)s")
    made.add_argument(
        "--temperature", type=float, default=0.0, help="above 0: draw words; default: %(default)s"
    )
    made.add_argument("--seed", type=int, default=0, help="of the drawing; default: %(default)s")
    made.add_argument(
        "--dtype",
        default="auto",
        help="of the weights: bfloat16, float16, float32; default: as they are stored",
    )
    made.add_argument("--device", default="auto", help="cuda, cpu, ...; default: %(default)s")
    return made


def to_message(question: str | None, location: Location | None) -> Message:
    """The user's turn, with the location where the question says {location}.

    Raises:
        ConfigError: a location without a place for it, a place without a location, or nothing.
    """
    if location is None:
        if not question:
            raise ConfigError(
                "there is no question", fix='add one, such as "Where is the dog?", or --box'
            )
        if "{location}" in question:
            raise ConfigError(
                "the question asks for a {location}, none is given",
                where=question,
                fix="add --box X1 Y1 X2 Y2 or --point X Y, in pixels of the image",
            )
        return Message("user", (question,))
    before, place, after = (question or DESCRIBE).partition("{location}")
    if not place:
        raise ConfigError(
            "the question has no place for the location",
            where=question,
            fix="write {location} where it belongs, or leave the question out",
        )
    return Message("user", tuple(part for part in (before, location, after) if part != ""))


def predict(args: argparse.Namespace) -> None:
    """Prints the answer and its boxes, and writes the picture.

    Raises:
        ConfigError: the arguments do not make a question about this image.
        DataError: the image cannot be read, or the location is none of it.
        CheckpointError: the model cannot be loaded.
    """
    location = Box(*args.box) if args.box else Point(*args.point) if args.point else None
    message = to_message(args.question, location)
    output = args.output or Path(f"{args.image.stem}-answer.png")
    check_output(output, args.image)
    # Imported here: torch takes seconds, and neither --help nor a wrong argument should wait.
    from locvlm.models.inputs import to_sample
    from locvlm.predictors.locvlm import LocVLMPredictor

    sample = to_sample(args.image)
    if location and sample.size:
        to_location(location, sample.size, "--box" if args.box else "--point")
    predictor = LocVLMPredictor(
        args.checkpoint,
        max_new_tokens=args.max_new_tokens,
        temperature=args.temperature,
        seed=args.seed,
        dtype=args.dtype,
        device=args.device,
    )
    question = Question("predict", sample, (message,))
    [answer] = predictor.answer([question])
    found = predictor.decode(answer, question).locations
    typed = [] if location else predictor.decode(str(message.parts[0]), question).locations
    print(printable(answer))
    for place in found:
        numbers = ", ".join(f"{value:.1f}" for value in place)
        print(f"{type(place).__name__.lower()}: {numbers} (pixels of the image)")
    _write_picture(sample, [location] if location else typed, found, output)
    print(f"picture: {output}")


def check_output(output: Path, image: Path) -> None:
    """Refuses an output that is no picture, or the image itself.

    Raises:
        ConfigError: says which.
    """
    if output.suffix.lower() not in FORMATS:
        raise ConfigError(
            f"{output.name!r} has no ending of a picture",
            where="--output",
            fix=f"use one of {', '.join(FORMATS)}",
        )
    if output.resolve() == image.resolve():
        raise ConfigError(
            "the picture would replace the image", where="--output", fix="give another name"
        )


def _write_picture(
    sample: Sample, asked: Sequence[Location], found: Sequence[Location], output: Path
) -> None:
    """The image with what was asked and what was found."""
    from PIL import Image

    from locvlm.images import decode_image
    from locvlm.report.draw import draw_marks

    pixels = decode_image(sample.image or b"", sample.source).permute(1, 2, 0).numpy()
    marks = [{"role": "asked", "location": place, "label": "asked"} for place in asked]
    for n, place in enumerate(found, 1):
        label = f"answer {n}" if len(found) > 1 else "answer"
        marks.append({"role": "predicted", "location": place, "label": label})
    stream = io.BytesIO()
    draw_marks(Image.fromarray(pixels), marks).save(stream, FORMATS[output.suffix.lower()])
    write_bytes(output, stream.getvalue())


@plain_errors
def main(argv: Sequence[str] | None = None) -> None:
    """Reads the arguments and answers."""
    predict(parser().parse_args(argv))


if __name__ == "__main__":
    main()
