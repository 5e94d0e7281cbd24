"""Models of real shapes, in training and generation: `python benchmarks/gpu.py --size 7b`.

Random weights of LocVLM-B and LocVLM-L, made on the device, without a network, beside transformers'
LlavaForConditionalGeneration of the same shape. Each row has its own process and time limit: one
that does not fit into memory, or takes too long, says so, and the others go on. A training step is
forward, backward, clipping and AdamW on the same samples: packed in locvlm, padded in transformers,
as its Trainer does. What fits is found by trying: full moments first, then activations that are
computed again, then 8-bit moments. Model FLOPs utilization counts neither padding nor what is
computed twice, for both alike. `--size tiny` and `small` run the same code on a CPU.
"""

import argparse
import gc
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from prefix import Shape
from run import machine

from locvlm.cli import print_table
from locvlm.io import write_json

SIZES = {  # LocVLM-B and LocVLM-L
    "tiny": {
        "b": Shape("tiny b", 32, 8, 64, 2, 0, 64, 3, 1),
        "l": Shape("tiny l", 48, 8, 64, 2, 0, 64, 3, 2),
    },
    "small": {
        "b": Shape("small b", 224, 14, 512, 8, 0, 192, 6, 1),
        "l": Shape("small l", 336, 14, 512, 8, 0, 192, 6, 2),
    },
    "7b": {
        "b": Shape("7b b", 224, 14, 4096, 32, 11008, 1024, 24, 1),
        "l": Shape("7b l", 336, 14, 4096, 32, 11008, 1024, 24, 2),
    },
}
BATCH = {"tiny": 4, "small": 4, "7b": 16}
VOCABULARY = {"tiny": 2_000, "small": 32_000, "7b": 32_000}
RESULTS = Path(__file__).parent / "results"
COLUMNS = {
    "train": ["samples_per_s", "tokens_per_s", "peak_gib", "mfu", "setting"],
    "generate": ["answers_per_s", "tokens_per_s", "peak_gib"],
}
JOBS = {  # kinds and who does them
    "train": {
        "full": ("locvlm", "locvlm compiled", "transformers"),
        "lora": ("locvlm", "locvlm compiled", "transformers"),
    },
    "generate": {"answers": ("locvlm", "transformers", "transformers batch")},
}


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    if options.job:
        for row in job(options, *options.job):
            print(json.dumps(row), flush=True)
        return
    now = datetime.now(UTC).date().isoformat()
    path = options.json or RESULTS / f"gpu-{options.size}-{now}.json"
    used = ("torch", "transformers", "timm", "peft", "bitsandbytes")
    versions = {name: installed(name) for name in used} | {"python": platform.python_version()}
    command = " ".join(["python benchmarks/gpu.py", *(arguments or sys.argv[1:])])
    found: dict[str, list[dict[str, Any]]] = {suite: [] for suite in options.suite}
    about = {"date": now, "command": command, "versions": versions, "machine": machine()}
    for suite, rows in found.items():
        for model, (kind, names) in product(options.models, JOBS[suite].items()):
            for name in names:
                if name.split()[-1] in options.by:
                    rows.extend(started(options, suite, model, kind, name))
                    write_json(path, about | {"rows": found})  # what is measured is kept
        shown(options, suite, rows)


def shown(options: argparse.Namespace, suite: str, rows: Sequence[dict[str, Any]]) -> None:
    columns = COLUMNS[suite]
    devices = {row["device"] for row in rows if "device" in row} or {machine()}
    lines = [
        (row["model"], row["what"], row["by"], *map(row.get, columns), row.get("note", ""))
        for row in rows
    ]
    title = f"{suite}, {options.size}, {', '.join(devices)}"
    print_table(title, ["model", "what", "by", *columns, "note"], lines)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--size", choices=SIZES, default="7b")
    made.add_argument("--suite", choices=JOBS, nargs="+", default=list(JOBS))
    made.add_argument("--models", choices=("b", "l"), nargs="+", default=["b", "l"])
    choices = ("locvlm", "compiled", "transformers", "batch")
    made.add_argument("--by", choices=choices, nargs="+", default=list(choices))
    made.add_argument("--batch-size", type=int, help="samples in a training step")
    made.add_argument("--steps", type=int, default=5, help="timed, behind two that warm up")
    made.add_argument("--questions", type=int, nargs="+", default=[1, 8, 32], help="about an image")
    made.add_argument("--new-tokens", type=int, default=32, help="of each answer")
    made.add_argument(
        "--attention", help="of locvlm: transformers' name, such as flash_attention_2"
    )
    made.add_argument("--seconds", type=float, default=600, help="limit of a row's process")
    made.add_argument("--json", type=Path, help="default: benchmarks/results/gpu-SIZE-DATE.json")
    made.add_argument("--job", nargs=4, help=argparse.SUPPRESS)
    return made


def started(options: argparse.Namespace, *what: str) -> list[dict[str, Any]]:
    """The rows of one process, and what became of those that it did not get to."""
    suite, model, kind, name = what
    wanted = [kind] if suite == "train" else [f"{n} questions" for n in options.questions]
    command = [sys.executable, __file__, "--size", options.size, "--job", *what]
    command += ["--steps", str(options.steps), "--new-tokens", str(options.new_tokens)]
    command += ["--questions", *map(str, options.questions)]
    if options.batch_size:
        command += ["--batch-size", str(options.batch_size)]
    if options.attention:
        command += ["--attention", options.attention]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    )
    try:
        printed, said = process.communicate(timeout=options.seconds)
        last = (said.strip().splitlines() or ["no message"])[-1]
        note = f"failed: {last[:200]}"
        if "OutOfMemoryError" in said or process.returncode == -9:
            note = "out of memory"
    except subprocess.TimeoutExpired:
        process.kill()
        printed, _ = process.communicate()
        note = f"not done in {options.seconds:g} s"
    done = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    told = [{"what": each, "note": note} for each in wanted[len(done) :]]
    return [{"model": model, "by": name, **row} for row in [*done, *told]]


def job(
    options: argparse.Namespace, suite: str, model: str, kind: str, name: str
) -> Iterator[dict[str, Any]]:
    """The rows of a process, one by one."""
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    label = torch.cuda.get_device_name(device) if device.type == "cuda" else machine()
    shape = SIZES[options.size][model]
    if suite == "generate":
        for row in generated(options, shape, name, device):
            yield {"device": label, **row}
        return
    import bench_models as models

    run = models.Run(
        shape,
        VOCABULARY[options.size],
        kind,
        device,
        compiled=name.endswith("compiled"),
        attention=options.attention,
    )
    attempts = [
        partial(trained, options, name, run._replace(optimizer=optimizer, again=again))
        for optimizer in (("adamw", "adamw8bit") if kind == "full" else ("adamw",))
        for again in (False, True)
        if optimizer == "adamw" or models.has_bitsandbytes()
    ]
    yield {"device": label, "what": kind, **first_that_fits(attempts)}


def first_that_fits(attempts: Sequence[Callable[[], dict[str, Any]]]) -> dict[str, Any]:
    import torch

    for attempt in attempts[:-1]:
        try:
            return attempt()
        except torch.OutOfMemoryError:
            pass
        gc.collect()  # only here: the exception held what the attempt had made
        torch.cuda.empty_cache()
    return attempts[-1]()


def trained(options: argparse.Namespace, name: str, run: Any) -> dict[str, Any]:
    """One kind of training step, with one optimizer."""
    import bench_models as models
    import torch

    from locvlm.training.flops import Work, cost, peak_flops
    from locvlm.training.throughput import peak_memory

    device = run.device
    samples, processor = models.examples(run.shape, options.batch_size or BATCH[options.size])
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    make = models.theirs if name == "transformers" else models.ours
    step, held = make(run, samples, processor)
    times = []
    for _ in range(2 + options.steps):
        start = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    took = median(times[2:])
    peak = peak_flops(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    work = Work(*held.tolist())
    flops = cost(models.on_meta(run)).flops(work)
    return {
        "samples_per_s": work.examples / took,
        "tokens_per_s": work.tokens / took,
        "peak_gib": peak_memory(device) / 2**30,
        "mfu": None if peak is None else flops / (took * peak),
        "model_flops_per_s": flops / took,
        "seconds": times,
        "setting": run.optimizer + (", activations again" if run.again else ""),
    }


def generated(
    options: argparse.Namespace, shape: Shape, name: str, device: Any
) -> Iterator[dict[str, Any]]:
    """Greedy answers of one length to questions about one image, in growing numbers."""
    import bench_models as models
    import torch
    from run import seconds

    from locvlm.training.throughput import peak_memory

    answers = models.answerer(shape, VOCABULARY[options.size], name, device, options.new_tokens)
    for n in options.questions:
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        took = seconds(partial(answers, n))
        yield {
            "what": f"{n} questions",
            "answers_per_s": n / took,
            "tokens_per_s": n * options.new_tokens / took,
            "peak_gib": peak_memory(device) / 2**30,
        }


def installed(name: str) -> str | None:
    try:
        return version(name)
    except ModuleNotFoundError:
        return None


if __name__ == "__main__":
    main()
