"""Prints the table of speeds that later work compares with: `python benchmarks/run.py`.

Every number is the median of three measurements; `--json FILE` keeps them for a comparison.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from statistics import median
from typing import Any

from locvlm.cli import print_table
from locvlm.io import write_json

REPEATS = 3
SCHEMES = ("nfp", "ivb", "diga")
N_BOXES = 1_000_000
Row = tuple[str, float, str]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", metavar="FILE", help="writes the numbers there as well")
    parser.add_argument("--only", choices=MEASURES, nargs="+", default=list(MEASURES))
    options = parser.parse_args(arguments)
    rows = [row for name in options.only for row in MEASURES[name]()]
    print_table(machine(), ["what", "value", "unit"], rows)
    if options.json:
        numbers = {f"{what} ({unit})": value for what, value, unit in rows}
        write_json(options.json, {"machine": machine(), "numbers": numbers})


def machine() -> str:
    name = platform.processor() or platform.machine()
    threads = os.environ.get("OMP_NUM_THREADS", "all")
    return f"{name}, {os.cpu_count()} cores, {threads} threads, Python {platform.python_version()}"


def seconds(call: Callable[[], Any]) -> float:
    """Wall time of a call, after one that warms up."""

    def once() -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    once()
    return median(once() for _ in range(REPEATS))


def start_up() -> Iterator[Row]:
    """How long the shell waits before anything happens."""
    for what, arguments in (
        ("python alone", ["-c", ""]),
        ("import locvlm", ["-c", "import locvlm"]),
        ("from locvlm import LocVLM", ["-c", "from locvlm import LocVLM"]),
        ("locvlm.train --help", ["-m", "locvlm.train", "--help"]),
    ):
        yield what, seconds(partial(shell, [sys.executable, *arguments])), "s"


def shell(command: Sequence[str]) -> None:
    # From another folder, so that the installed package is measured.
    folder = tempfile.gettempdir()
    subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=True)


def coordinates() -> Iterator[Row]:
    """Schemes without a model: tokens per answer, arithmetic, and the parser."""
    import numpy as np

    from locvlm.coordinates import parse, write_location
    from locvlm.types import Unit

    corners = np.random.default_rng(0).random((N_BOXES, 2, 2))
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    for scheme in SCHEMES:
        processor = parts(scheme)[1]
        codec = processor.coordinates
        text = ""
        for kind, values in (("box", (0.123, 0.244, 0.517, 0.868)), ("point", (0.123, 0.244))):
            answer = f" It is located at {write_location(Unit(values), codec)}.</s>"
            ids = processor.tokenizer(answer, add_special_tokens=False)["input_ids"]
            yield f"{scheme}: answer with a {kind}", len(ids), "tokens"
            text += answer * 2000
        numbers = codec.encode_boxes(boxes)
        for what, call in (
            ("encode a million boxes", partial(codec.encode_boxes, boxes)),
            ("decode a million boxes", partial(codec.decode_boxes, numbers)),
        ):
            yield f"{scheme}: {what}", seconds(call), "s"
        took = seconds(partial(parse, text, codec))
        yield f"{scheme}: parse answers", len(text) / 1e6 / took, "MB/s"


def training() -> Iterator[Row]:
    """Loader and step of the tiny model, with the batches and the optimizer of `make demo`."""
    from hydra.utils import instantiate

    cfg, processor, model = parts("ivb")
    with tempfile.TemporaryDirectory() as folder:
        data = loaded(cfg, processor, Path(folder, "scenes"))
        loader = data.train_dataloader()
        batches = list(loader)
        n_samples = sum(len(batch["input_ids"]) for batch in batches)
        yield "loader, shards to batches", n_samples / seconds(lambda: list(loader)), "samples/s"
    batch = batches[0]
    model.encoder.requires_grad_(False)  # as in the stage that takes most of the time
    learned = [pair for pair in model.named_parameters() if pair[1].requires_grad]
    optimizer = instantiate(cfg.stages.instruct.optimizer)(learned)

    def step() -> None:
        optimizer.zero_grad()
        model(**batch).backward()
        optimizer.step()

    model.train()
    took = seconds(lambda: [step() for _ in range(5)]) / 5
    yield "training step", len(batch["input_ids"]) / took, "samples/s"
    yield "training step", int(batch["attention_mask"].sum()) / took, "tokens/s"


def generation() -> Iterator[Row]:
    """Greedy answers of 32 tokens; what an untrained model says ends nowhere sooner."""
    from locvlm.scenes import World, scenes
    from locvlm.types import Message

    _, processor, model = parts("ivb")
    question = [Message("user", ("Where is the circle?",))]
    prompts = [processor.prompt(scene.sample(), question) for scene in scenes(World(), "test", 32)]
    processor.end_id = -1  # never said: each answer has the full length
    for n in (1, 32):
        took = seconds(partial(model.generate, prompts[:n], max_new_tokens=32))
        yield f"generation, batch {n}", 32 * n / took, "tokens/s"


def loaded(cfg: Any, processor: Any, folder: Path) -> Any:
    """The data module of `cfg` on freshly drawn scenes."""
    from hydra.utils import instantiate

    cfg.scenes_folder = str(folder)
    return instantiate(cfg.data, processor=processor, _convert_="all")


@cache
def parts(scheme: str) -> Any:
    """Config, processor and model of `make demo` with another coordinate scheme."""
    import torch
    from hydra import compose, initialize_config_module
    from hydra.utils import instantiate

    import locvlm.train  # noqa: F401 (registers the schema)

    torch.manual_seed(0)
    with initialize_config_module("locvlm.conf", version_base="1.3"):
        few = "scenes.splits={train: 512, val: 8, test: 8}"
        cfg = compose("train", ["+experiment=scenes_demo", f"coordinates={scheme}", few])
    processor = instantiate(cfg.processor, _convert_="all")
    model = instantiate(cfg.model, _convert_="all", _partial_=True)(processor=processor)
    return cfg, processor, model


MEASURES = {
    "start_up": start_up,
    "coordinates": coordinates,
    "training": training,
    "generation": generation,
}

if __name__ == "__main__":
    warnings.filterwarnings("ignore", ".*(LeafSpec|set_vital)")
    main()
