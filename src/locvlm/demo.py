"""Trains the small model on the built-in scenes and measures it: `python -m locvlm.demo`.

A run that was interrupted goes on where it stopped; a finished one is measured again.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from locvlm.cli import plain_errors, set_up_logging
from locvlm.errors import ConfigError


@plain_errors
def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m locvlm.demo", description=__doc__)
    parser.add_argument("--experiment", default="scenes_demo", help="scenes_demo or scenes_hour")
    parser.add_argument("--seed", type=int, default=0, help="of scenes, weights and order")
    parser.add_argument("--folder", type=Path, help="of the run; default runs/<experiment>-<seed>")
    options = parser.parse_args(arguments)
    set_up_logging()
    folder = options.folder or Path("runs", f"{options.experiment}-{options.seed}")
    run(options.experiment, options.seed, folder)


def run(experiment: str, seed: int, folder: Path) -> None:
    """Trains in `folder` and writes the evaluation beside the model.

    Raises:
        ConfigError: there is no such experiment.
    """
    from hydra import compose, initialize_config_module
    from hydra.errors import MissingConfigException

    # Imported before composing: they register the schemas of their configs.
    from locvlm.evaluate import evaluate
    from locvlm.train import train

    began = time.monotonic()
    with initialize_config_module("locvlm.conf", version_base="1.3"):
        resume = ["ckpt_path=last"] if folder.exists() else []
        try:
            training = compose("train", [f"+experiment={experiment}", f"seed={seed}", *resume])
        except MissingConfigException as error:
            raise ConfigError(
                f"no experiment named {experiment}",
                where="--experiment",
                fix="choose scenes_demo or scenes_hour",
            ) from error
        evaluation = compose("evaluate", ["benchmark=scenes"])
    checkpoint = folder / "model"
    # Not among the overrides: Hydra's grammar refuses many a path, such as `runs (1)/demo`.
    evaluation.checkpoint = str(checkpoint)
    train(training, folder)
    trained = time.monotonic()
    evaluate(evaluation)
    finished = time.monotonic()
    print(f"trained in {(trained - began) / 60:.1f} min, measured in {finished - trained:.0f} s")
    print(f"model:  {checkpoint}")
    print(f"ask it: python -m locvlm.predict {checkpoint} PICTURE 'Where is the red circle?'")


if __name__ == "__main__":
    main()
