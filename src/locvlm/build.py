"""Builds a benchmark's questions from annotations: `python -m locvlm.prepare benchmark=hal ...`.

    python -m locvlm.prepare benchmark=hal instances=instances_val2017.json output=hal_coco.json

benchmark   one of BENCHMARKS
output      the file of questions; one that is there stays, unless overwrite=true
others      go to the builder: its annotations, how many questions, the seed; values are taken as
            they stand, whatever characters a path holds

Prints how many questions were written, and what was left out.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from locvlm.arguments import compose_plain, option_names
from locvlm.cli import plain_errors, print_table, set_up_logging
from locvlm.errors import ConfigError

OWN = ("output", "overwrite", "seed")
CHOSEN = ("exclude",)


@plain_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; None takes the arguments of the process."""
    from hydra.utils import instantiate

    from locvlm.io import write_json

    given = sys.argv[1:] if arguments is None else list(arguments)
    names = list(option_names("builder"))
    if {"-h", "--help"} & set(given):
        print((__doc__ or "").replace("BENCHMARKS", ", ".join(names)))
        return
    set_up_logging()
    cfg = compose_plain("build", "builder", given, names=names, own=OWN, chosen=CHOSEN)
    if Path(cfg.output).exists() and not cfg.overwrite:
        raise ConfigError(
            "there is a file already",
            where=str(cfg.output),
            fix="choose another output, or overwrite=true",
        )
    built, counts = instantiate(cfg.builder, _convert_="all")
    write_json(cfg.output, built)
    print_table(f"Written to {cfg.output}", ["what", "number"], list(counts.items()))


if __name__ == "__main__":
    main()
