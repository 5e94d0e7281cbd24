"""Shows what a tokenizer makes of locations: `python -m locvlm.tokens lmsys/vicuna-7b-v1.5`."""

import argparse
from collections.abc import Sequence

from locvlm.cli import plain_errors, print_table
from locvlm.errors import ConfigError

EPILOG = """\
examples:
  python -m locvlm.tokens runs/scenes_demo-0/model --bins 64 --cell 8
  python -m locvlm.tokens lmsys/vicuna-7b-v1.5 --bins 336

The tokenizer is a folder, or a model of the hub that was downloaded before. Counts are of 500 boxes
and 500 points, as they stand in an answer. Digits are split one by one, kept together as one token
for each number, or split in groups. Where a number shares a token with punctuation or with another
number, the model meets it in a disguise that it has to learn apart.
"""


def parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    made = argparse.ArgumentParser(
        prog="python -m locvlm.tokens",
        description="Show how a tokenizer splits boxes and points in each coordinate scheme.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("tokenizer", help="folder with a tokenizer, or hub id")
    made.add_argument("--bins", type=int, default=224, help="of IVB, DIGA; default: %(default)s")
    made.add_argument("--cell", type=int, default=14, help="of DIGA; default: %(default)s")
    made.add_argument("--decimals", type=int, default=4, help="of NFP; default: %(default)s")
    return made


def show(args: argparse.Namespace) -> None:
    """Prints a table of the schemes, and an example box of each in pieces.

    Raises:
        CheckpointError: there is no such tokenizer here.
        ConfigError: it gives no character offsets, or a scheme cannot have these bins.
    """
    from locvlm.coordinates import DIGA, IVB, NFP, Coordinates

    schemes: dict[str, Coordinates] = {
        "NFP": NFP(args.decimals),
        "IVB": IVB(args.bins),
        "DIGA": DIGA(args.bins, args.cell),
    }
    # Imported here: it takes seconds, and neither --help nor a wrong argument should wait.
    from locvlm.digits import digits_of
    from locvlm.tokenizers import pretrained

    tokenizer = pretrained(args.tokenizer, local_files_only=True)
    if not tokenizer.is_fast:
        raise ConfigError(
            f"{type(tokenizer).__name__} gives no character offsets",
            where=args.tokenizer,
            fix="use the fast (tokenizers) version",
        )
    found = {name: digits_of(tokenizer, scheme) for name, scheme in schemes.items()}
    columns = ("scheme", "box: mean", "most", "point: mean", "most", "digits", "merged in a token")
    rows = [
        (name, *own.box_tokens, *own.point_tokens, own.treatment, _shortened(own.merged))
        for name, own in found.items()
    ]
    print_table(f"tokens of locations, {args.tokenizer}", columns, rows)
    for name, own in found.items():
        print(f"{name}: {'|'.join(own.example)}")


def _shortened(pieces: Sequence[str], most: int = 5) -> str:
    if not pieces:
        return "never"
    return "  ".join(pieces[:most]) + (f"  and {len(pieces) - most} more" if pieces[most:] else "")


@plain_errors
def main(argv: Sequence[str] | None = None) -> None:
    """Reads the arguments and prints."""
    show(parser().parse_args(argv))


if __name__ == "__main__":
    main()
