"""Prints how fast loaders turn photos into batches: `python benchmarks/loader.py`.

All of them read the same JPEGs and the same conversations, tokenize them alike, and give batches
that a model can take: `locvlm` and, for comparison, what people use in its place: webdataset with
Pillow, and litdata and Hugging Face datasets where they are installed. A second table says where
the CPU time of `locvlm` goes.

Photos are drawn (smooth noise of several scales), as large as real ones and as slow to decode:
COCO's have 163 kB on average, quality 96 without subsampling of colours, LLaVA's for pretraining
48 kB. `--images FOLDER` takes the JPEGs of a folder in their place.
"""

import argparse
import importlib.util
import io
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from PIL import Image
from run import machine, parts
from torch.utils.data import DataLoader, Dataset

from locvlm.cli import print_table
from locvlm.data import LocVLMDataModule, Quarantine, Source, collate, write_shards
from locvlm.data.loader import Loader
from locvlm.data.records import from_record
from locvlm.geometry import resize
from locvlm.images import decode_image, image_size, normalize
from locvlm.processor import Processor
from locvlm.types import Message, Sample

TALK = ("What is shown here?", "A street with a red car in front of a house, and two people.")
ROUNDS = 3
POOL = 40  # different photos
DRAWN = (((640, 480), 96, 224), ((336, 336), 92, 336))  # size, JPEG quality, the model's side


class PillowProcessor(Processor):
    """Decodes, resizes and normalizes as most training code does."""

    def pixel_values(self, sample: Sample) -> torch.Tensor:
        image = Image.open(io.BytesIO(sample.image or b"")).convert("RGB")
        side = self.image_size
        if image.size != (side, side):
            image = image.resize((side, side), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        return normalize(pixels, self.mean, self.std)[None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="takes its *.jpg")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    for size, quality, side in DRAWN:
        if options.images:
            pool = [file.read_bytes() for file in sorted(options.images.glob("*.jpg"))]
        else:
            pool = [photo(rng, size, quality) for _ in range(POOL)]
        compare(list(talked(pool, options.samples)), side, options)


def compare(samples: Sequence[Sample], side: int, options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        loaders = make_loaders(samples, Path(folder), side, options)
        rows = list(rates(loaders))
        width, height = (mean(sample.size[axis] for sample in samples) for axis in (0, 1))
        kilobytes = mean(len(sample.image) for sample in samples) / 1000
        photos = f"{width:.0f} x {height:.0f} px, {kilobytes:.0f} kB on average"
        title = f"{photos}, to {side} px, {options.workers} workers; {machine()}"
        print_table(title, ["loader", "samples/s", "of webdataset"], rows)
        title = f"CPU of locvlm, one process, {photos}, to {side} px"
        alone = ours(make(Processor, side), Path(folder), options.batch_size, 0)
        print_table(title, ["what", "ms per sample", "share"], list(stages(alone)))


def make_loaders(
    samples: Sequence[Sample], folder: Path, side: int, options: argparse.Namespace
) -> dict[str, Iterable]:
    write_shards(samples, folder / "shards", quarantine=Quarantine(), per_shard=250)
    processor, pillow = (make(kind, side) for kind in (Processor, PillowProcessor))
    join = partial(collate, pad_id=processor.pad_id)
    settings = {"batch_size": options.batch_size, "num_workers": options.workers}
    loaders: dict[str, Iterable] = {
        "webdataset + Pillow": webdataset(folder / "shards", pillow, join, settings),
        "webdataset + our decoding": webdataset(folder / "shards", processor, join, settings),
        "locvlm": ours(processor, folder, **settings),
    }
    if min(min(sample.size) for sample in samples) >= 2 * side:
        reduced = make(Processor, side, reduced_decode=True)
        loaders["locvlm, reduced_decode"] = ours(reduced, folder, **settings)
    if importlib.util.find_spec("litdata"):
        loaders["litdata + our decoding"] = litdata(samples, folder, processor, join, settings)
    if importlib.util.find_spec("datasets"):
        loaders["datasets + our decoding"] = hub(samples, processor, join, settings)
    return loaders


def rates(loaders: dict[str, Iterable]) -> Iterator[tuple]:
    found: dict[str, list[float]] = {name: [] for name in loaders}
    for _ in range(ROUNDS + 1):  # in turns: other work on the machine hits all of them
        for name, loader in loaders.items():
            found[name].append(rate(loader))
    best = {name: max(several[1:]) for name, several in found.items()}
    for name, value in best.items():
        yield name, value, value / best["webdataset + Pillow"]


def rate(loader: Iterable) -> float:
    start = time.perf_counter()
    n_samples = sum(len(batch["input_ids"]) for batch in loader)
    return n_samples / (time.perf_counter() - start)


def stages(loader: Loader) -> Iterator[tuple]:
    """Where the CPU time of a loader without workers goes; each stage is measured by itself."""
    examples, processor = loader.examples, loader.examples.processor
    draws = [draw for batch in loader.sampler for draw in batch]
    read = [examples.sample(draw) for draw in draws]
    batches = [examples.__getitems__(batch) for batch in loader.sampler]
    unseen = torch.empty(0)
    whole = cpu(loader, list)
    decode = cpu(read, lambda pair: decode_image(pair[0].image, pair[0].source))
    parts = {
        "decode JPEGs": decode,
        "resize": cpu(read, lambda pair: processor.pixel_values(pair[0])) - decode,
        "read, check, parse": cpu(draws, examples.sample),
        "tokenize, label": cpu(read, lambda pair: processor.encode(*pair, unseen)),
        "join": cpu(batches, lambda batch: collate([one["example"] for one in batch], 0)),
    }
    parts["else, such as cold caches"] = whole - sum(parts.values())
    for name, seconds in (parts | {"all": whole, "all but decoding": whole - decode}).items():
        yield name, 1000 * seconds / len(draws), seconds / whole


def cpu(items: Iterable, work: Callable) -> float:
    """Seconds of CPU time that `work` takes for all items, in the best of some rounds."""
    seconds = []
    for _ in range(ROUNDS):
        start = time.process_time()
        for item in items:
            work(item)
        seconds.append(time.process_time() - start)
    return min(seconds)


def talked(pool: Sequence[bytes], count: int) -> Iterator[Sample]:
    messages = (Message("user", TALK[:1]), Message("assistant", TALK[1:]))
    for n, data in enumerate(islice(cycle(pool), count)):
        yield Sample(f"{n}", "drawn", data, image_size(data, "drawn"), messages=messages)


def photo(rng: np.random.Generator, size: tuple[int, int], quality: int = 96) -> bytes:
    """A JPEG of smooth noise that has as many bytes for its size as a real one."""
    layers = np.zeros((size[1], size[0], 3))
    for cells, strength in ((4, 90), (16, 50), (64, 25), (240, 8)):
        noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        layers += (
            (np.asarray(noise.resize(size, Image.Resampling.BICUBIC)) - 128.0) / 128 * strength
        )
    pixels = Image.fromarray((128 + layers).clip(0, 255).astype(np.uint8))
    buffer = io.BytesIO()
    pixels.save(buffer, "JPEG", quality=quality, subsampling="4:4:4")
    return buffer.getvalue()


def make(kind: type[Processor], side: int, **options: object) -> Processor:
    ours = parts("ivb")[1]
    return kind(
        ours.tokenizer,
        ours.coordinates,
        resize,
        ours.chat,
        image_size=side,
        patch_size=side // 8,
        **options,
    )


def ours(processor: Processor, folder: Path, batch_size: int, num_workers: int) -> Loader:
    source = {"all": Source(str(folder / "shards"))}
    data = LocVLMDataModule(processor, source, batch_size=batch_size, num_workers=num_workers)
    return data.train_dataloader()


def webdataset(folder: Path, processor: Processor, join: Callable, settings: dict) -> Iterable:
    import webdataset as wds

    def example(pair: tuple[bytes, bytes]):
        sample = from_record(json.loads(pair[1]), pair[0], "benchmark")
        return processor.encode(sample, sample.messages)

    files = sorted(map(str, folder.glob("*.tar")))
    data = wds.WebDataset(files, shardshuffle=False, empty_check=False)
    data = data.to_tuple("jpg", "json").map(example)
    return DataLoader(data, collate_fn=join, persistent_workers=True, **settings)


class Encoded(Dataset):
    """Rows of {jpg, json} of any map-style data set, encoded."""

    def __init__(self, rows: Dataset, processor: Processor):
        self.rows, self.processor = rows, processor

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int):
        row = self.rows[index]
        sample = from_record(json.loads(row["json"]), row["jpg"], "benchmark")
        return self.processor.encode(sample, sample.messages)


def litdata(samples, folder, processor, join, settings):
    from litdata import StreamingDataset
    from litdata.streaming.writer import BinaryWriter

    writer = BinaryWriter(str(folder / "litdata"), chunk_bytes="64MB")
    for n, sample in enumerate(samples):
        writer.add_item(n, row(sample))
    writer.done()
    writer.merge()
    rows = StreamingDataset(str(folder / "litdata"))
    return DataLoader(Encoded(rows, processor), collate_fn=join, **settings)


def hub(samples, processor, join, settings):
    import pyarrow
    from datasets import Dataset as Rows
    from datasets.table import InMemoryTable

    table = InMemoryTable(pyarrow.Table.from_pylist([row(sample) for sample in samples]))
    rows = Rows(table, fingerprint="drawn")  # its own would pickle the table, which some refuse
    return DataLoader(
        Encoded(rows, processor), collate_fn=join, persistent_workers=True, **settings
    )


def row(sample: Sample) -> dict[str, bytes]:
    from locvlm.data.records import to_record

    return {"jpg": sample.image or b"", "json": json.dumps(to_record(sample)).encode()}


if __name__ == "__main__":
    main()
