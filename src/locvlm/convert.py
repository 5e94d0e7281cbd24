"""Rewrites the locations of a data set from one model's dialect into another's.

    python -m locvlm.prepare convert from=llava to=ivb input=FILE output=FILE images=FOLDER

input     LLaVA's or ms-swift's records: a JSON list, or JSON Lines (.jsonl)
output    the same records with other numbers; one that is there stays, unless overwrite=true
images    folder of the images, for records without width and height
from, to  one of DIALECTS

Settings of a dialect follow its name: to=ivb to.bins=336 to.geometry=pad.
Records that cannot be converted are named, with the reason, in OUTPUT.quarantine.jsonl.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from locvlm.arguments import option_names
from locvlm.cli import hydra_command, plain_errors, print_table, set_up_logging
from locvlm.errors import ConfigError

if TYPE_CHECKING:
    from locvlm.data.convert import Conversion

SIDES = ("from", "to")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; None takes the arguments of the process."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if {"-h", "--help"} & set(given):
        print((__doc__ or "").replace("DIALECTS", ", ".join(option_names("dialect"))))
        return
    sys.argv = [sys.argv[0], *_overrides(given)]
    _run()


@plain_errors
def _overrides(arguments: Sequence[str]) -> list[str]:
    """`from=llava` as Hydra's grammar has it: the group `dialect`, mounted at `from`."""
    for side in SIDES:
        if not any(argument.startswith((f"{side}=", f"dialect@{side}=")) for argument in arguments):
            raise ConfigError(
                f"a dialect to convert {side} is needed",
                fix=f"add {side}=... with one of {', '.join(option_names('dialect'))}",
            )
    sides = tuple(f"{side}=" for side in SIDES)
    return [f"dialect@{one}" if one.startswith(sides) else one for one in arguments]


@hydra_command("convert")
def _run(cfg: DictConfig) -> None:
    from hydra.utils import instantiate

    from locvlm.config import check_targets
    from locvlm.data.convert import convert_file, quarantine_file

    set_up_logging()
    check_targets(OmegaConf.to_container(cfg, resolve=True))
    done = convert_file(
        cfg.input,
        cfg.output,
        read=instantiate(cfg["from"]),
        write=instantiate(cfg["to"]),
        images=cfg.images,
        overwrite=cfg.overwrite,
    )
    print_table(f"Written to {cfg.output}", ["what", "number"], list(_rows(done)))
    if len(done.quarantine):
        print(f"Set aside, with reasons: {quarantine_file(cfg.output)}")


def _rows(done: "Conversion") -> Iterator[tuple[str, object]]:
    yield "records", done.records
    yield "turns", done.turns
    yield "locations", done.locations
    yield "left as text: no location of the image", done.left
    yield "set aside", len(done.quarantine)
    for reason, number in done.quarantine.reasons.items():
        yield f"set aside: {reason}", number


if __name__ == "__main__":
    main()
