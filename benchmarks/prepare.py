"""Time and memory of reading COCO files of growing size: `python benchmarks/prepare.py`.

Each file is read by a process of its own; its images are one tiny JPEG, its polygons as long as
COCO's, so that the table shows what annotations cost.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random

from locvlm.cli import print_table

PER_IMAGE = 8  # COCO has 7.3
SCRIPT = """
import resource, sys, time
from locvlm.data import Quarantine
from locvlm.data.readers import CocoReader
reader = CocoReader(sys.argv[1], sys.argv[2], negatives=sys.argv[3])
start = time.perf_counter()
n = sum(len(sample.instances) for sample in reader.read(Quarantine()))
print(n, time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--annotations", type=int, nargs="+", default=[10**3, 10**4, 10**5, 10**6])
    parser.add_argument("--negatives", default="random")
    options = parser.parse_args(arguments)
    rows = []
    for n_annotations in options.annotations:
        with tempfile.TemporaryDirectory() as folder:
            file = write_coco(Path(folder), n_annotations)
            command = [sys.executable, "-c", SCRIPT, str(file), folder, options.negatives]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            n, seconds, peak = map(float, done.stdout.split())
            megabytes = round(file.stat().st_size / 1e6)
        rows.append((int(n), megabytes, round(seconds, 1), round(n / seconds), round(peak)))
    columns = ["annotations", "file, MB", "seconds", "annotations/s", "peak MB"]
    print_table(f"CocoReader, {options.negatives} negatives", columns, rows)


def write_coco(folder: Path, n_annotations: int) -> Path:
    """An instances file whose annotations are in random order, and its image."""
    from PIL import Image

    Image.new("RGB", (64, 48)).save(folder / "a.jpg")
    rng = Random(0)
    polygon = [round(rng.uniform(0, 640), 2) for _ in range(60)]
    n_images = n_annotations // PER_IMAGE
    file = folder / "instances.json"
    with file.open("w") as out:
        out.write('{"annotations": [')
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
        images = [{"id": n, "file_name": "a.jpg"} for n in range(n_images)]
        categories = [{"id": n, "name": f"category {n}"} for n in range(80)]
        out.write(f'], "images": {json.dumps(images)}, "categories": {json.dumps(categories)}}}')
    return file


if __name__ == "__main__":
    main()
