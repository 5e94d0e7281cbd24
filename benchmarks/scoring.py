"""Time and memory of scoring recorded answers: `python benchmarks/scoring.py`.

VQA v2's validation split has 214,354 questions about 40,504 images, each with ten human answers.
Files of that form are drawn here and scored by the command itself, in a process of its own: its
imports, the reading of the files and the intervals of all 69 figures are in its time. `CPU s` is
what one core needs; where it is less than the seconds, other work had the core.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from locvlm.cli import print_table
from locvlm.evaluation.bootstrap import estimate, ratio
from locvlm.evaluation.metrics.boxes import iou

PER_IMAGE = 5
TYPES = ("yes/no", "number", "other")
WORDS = ("yes", "no", "2", "red", "left", "dog", "man", "on the table", "none", "skateboarding")
N_PAIRS = 1_000_000


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=200_000)
    n = parser.parse_args(arguments).questions
    with tempfile.TemporaryDirectory() as folder:
        options = write_vqa(Path(folder), n)
        seconds, cpu, peak = measured(["benchmark=vqav2", *options])
    rows: list[tuple[Any, ...]] = [(f"score benchmark=vqav2, {n:,} answers", seconds, cpu, peak)]
    rng = np.random.default_rng(0)
    a, b = rng.random((2, N_PAIRS, 4))
    rows.append((f"IoU of {N_PAIRS:,} pairs of boxes", *timed(lambda: iou(a, b)), ""))
    images = [number // PER_IMAGE for number in range(n)]
    right, overlap = ratio(rng.random(n) < 0.7), ratio(rng.random(n))
    rows.append((f"interval, {n:,} right or wrong", *timed(lambda: estimate(right, images)), ""))
    rows.append((f"interval, {n:,} overlaps", *timed(lambda: estimate(overlap, images)), ""))
    print_table("scoring", ["what", "seconds", "CPU s", "peak MB"], rows)


def write_vqa(folder: Path, n: int) -> list[str]:
    """Questions, annotations and answers in VQA's form; gives the options that name the files."""
    rng = Random(0)
    questions, annotations, answers = [], [], []
    for number in range(n):
        image = 1000 + number // PER_IMAGE
        key = 1000 * image + number % PER_IMAGE
        humans = rng.choices(rng.sample(WORDS, 3), weights=(7, 2, 1), k=10)
        questions.append({"question_id": key, "image_id": image, "question": "What is it?"})
        annotations.append(
            {
                "question_id": key,
                "image_id": image,
                "question_type": f"type {rng.randrange(65)}",
                "answer_type": rng.choice(TYPES),
                "multiple_choice_answer": humans[0],
                "answers": [
                    {"answer": text, "answer_confidence": "yes", "answer_id": place}
                    for place, text in enumerate(humans, start=1)
                ],
            }
        )
        said = rng.choice([humans[0], f"The {humans[1]}.", f"text {rng.randrange(n)}"])
        answers.append({"question_id": key, "answer": said})
    head = {"data_subtype": "val2014", "info": {}}
    contents = {
        "questions": head | {"questions": questions},
        "annotations": head | {"annotations": annotations},
        "answers": answers,
    }
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return [f"{name}={folder / name}.json" for name in contents]


def measured(options: Sequence[str]) -> tuple[float, float, int]:
    """Seconds, CPU seconds and MB at the peak of a run of the command."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "locvlm.score", *options], stdout=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit("the command failed")
    seconds = time.perf_counter() - start
    return seconds, used.ru_utime + used.ru_stime, round(used.ru_maxrss / 1024)


def timed(call: Any) -> tuple[float, float]:
    """Seconds and CPU seconds of a call."""
    start, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - start, time.process_time() - cpu


if __name__ == "__main__":
    main()
