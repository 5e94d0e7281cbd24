"""Time, cores and memory of preparing COCO data of growing size: `python benchmarks/prepare.py`.

Two tables: reading annotations alone, whose images are one tiny JPEG, and preparing shards of drawn
photos of 640 x 480. Polygons are as long as COCO's. Each row is a process of its own, with those
that it starts; `cores` is their CPU time over the time, where 2.0 is all that two cores have if
nothing else runs on them. What the first process takes of it, more cores do not make faster.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
from loader import photo
from PIL import Image

from locvlm.cli import print_table

PER_IMAGE = 8  # COCO has 7.3
N_PHOTOS = 40
SCRIPT = """
import os, resource, sys, time
import rich.console, rich.progress  # imports are not what is measured
from locvlm.data import Quarantine
from locvlm.data.readers import CocoReader
from locvlm.prepare import prepare
file, images, negatives, output = sys.argv[1:]
reader = CocoReader(file, images, negatives=negatives)
start, before = time.perf_counter(), os.times()
n = sum(1 for _ in reader.read(Quarantine())) if not output else len(prepare(reader, output))
seconds, after = time.perf_counter() - start, os.times()
first, others = (sum(after[n:n + 2]) - sum(before[n:n + 2]) for n in (0, 2))
print(seconds, first, first + others, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--annotations", type=int, nargs="+", default=[10**3, 10**4, 10**5, 10**6])
    parser.add_argument("--negatives", default="random")
    parser.add_argument("--quality", type=int, default=96, help="of the photos; 96: 155 kB each")
    options = parser.parse_args(arguments)
    reading, preparing = [], []
    for n_annotations in options.annotations:
        with tempfile.TemporaryDirectory() as folder:
            read, prepared = rows(Path(folder), n_annotations // PER_IMAGE, options)
        reading.append(read)
        preparing.append(prepared)
    columns = ["annotations", "file, MB", "seconds", "annotations/s", "cores", "peak MB"]
    print_table(f"CocoReader, {options.negatives} negatives", columns, reading)
    columns = ["images", "seconds", "images/s", "CPU ms per image", "of the first process"]
    columns += ["cores", "peak MB"]
    print_table(f"prepare, {PER_IMAGE} annotations per image", columns, preparing)


def rows(folder: Path, n_images: int, options: argparse.Namespace) -> tuple[tuple, tuple]:
    """One row of each table."""
    photos = write_images(folder, options.quality)
    n = n_images * PER_IMAGE
    file = write_coco(folder, n_images, ["tiny.jpg"])
    size = round(file.stat().st_size / 1e6)
    seconds, _, cpu, peak = measured(file, options.negatives)
    read = (n, size, seconds, round(n / seconds), cpu / seconds, round(peak))
    file = write_coco(folder, n_images, photos)
    seconds, first, cpu, peak = measured(file, options.negatives, folder / "shards")
    rate, *per_image = round(n_images / seconds), 1000 * cpu / n_images, 1000 * first / n_images
    return read, (n_images, seconds, rate, *per_image, cpu / seconds, round(peak))


def measured(file: Path, negatives: str, output: Path | None = None) -> list[float]:
    """What reading a file takes, or preparing shards of it.

    Seconds, CPU seconds of the first process and of all, MB of the first one at its peak.
    """
    arguments = [str(file), str(file.parent), negatives, str(output or "")]
    command = [sys.executable, "-c", SCRIPT, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(number) for number in done.stdout.split()]


def write_images(folder: Path, quality: int) -> list[str]:
    """A tiny JPEG and some photos; gives the names of the photos."""
    Image.new("RGB", (64, 48)).save(folder / "tiny.jpg")
    rng = np.random.default_rng(0)
    names = [f"{n}.jpg" for n in range(N_PHOTOS)]
    for name in names:
        (folder / name).write_bytes(photo(rng, (640, 480), quality))
    return names


def write_coco(folder: Path, n_images: int, names: Sequence[str]) -> Path:
    """An instances file in COCO's order of tables, its annotations in random order."""
    rng = Random(0)
    polygon = [round(rng.uniform(0, 640), 2) for _ in range(60)]
    images = [{"id": n, "file_name": names[n % len(names)]} for n in range(n_images)]
    categories = [{"id": n, "name": f"category {n}"} for n in range(80)]
    file = folder / "instances.json"
    with file.open("w") as out:
        out.write(f'{{"images": {json.dumps(images)}, "annotations": [')
        for n in range(n_images * PER_IMAGE):
            annotation = {
                "id": n,
                "image_id": rng.randrange(n_images),
                "category_id": rng.randrange(80),
                "bbox": [1.5, 2.5, 30.25, 20.75],
                "iscrowd": 0,
                "segmentation": [polygon],
            }
            out.write(f"{', ' if n else ''}{json.dumps(annotation)}")
        out.write(f'], "categories": {json.dumps(categories)}}}')
    return file


if __name__ == "__main__":
    main()
