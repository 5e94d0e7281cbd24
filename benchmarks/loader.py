"""Prints how fast loaders turn photos into batches: `python benchmarks/loader.py`.

All of them read the same JPEGs and the same conversations, tokenize them alike, and give batches
that a model can take: `locvlm` and, for comparison, what people use in its place: webdataset with
Pillow, and litdata and Hugging Face datasets where they are installed. Photos are drawn (smooth
noise of several scales, quality 90), so that they cost what photos cost.
"""

import argparse
import importlib.util
import io
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from run import machine, parts
from torch.utils.data import DataLoader, Dataset

from locvlm.cli import print_table
from locvlm.data import LocVLMDataModule, Quarantine, Source, collate, write_shards
from locvlm.data.records import from_record
from locvlm.geometry import resize
from locvlm.images import decode_image, normalize
from locvlm.processor import Processor
from locvlm.types import Message, Sample

TALK = ("What is shown here?", "A street with a red car in front of a house, and two people.")
ROUNDS = 3


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
    options = parser.parse_args()
    torch.set_num_threads(1)
    for size, side in (((640, 480), 224), ((336, 336), 336)):
        with tempfile.TemporaryDirectory() as folder:
            rows = list(measured(Path(folder), size, side, options))
        title = f"{size[0]} x {size[1]} px to {side} px, {options.workers} workers; {machine()}"
        print_table(title, ["loader", "samples/s", "of webdataset"], rows)


def measured(folder: Path, size: tuple[int, int], side: int, options: argparse.Namespace):
    samples = list(drawn(options.samples, size))
    write_shards(samples, folder / "shards", quarantine=Quarantine(), per_shard=250)
    processor, pillow = (make(kind, side) for kind in (Processor, PillowProcessor))
    reduced = make(Processor, side, reduced_decode=True)
    join = partial(collate, pad_id=processor.pad_id)
    settings = {"batch_size": options.batch_size, "num_workers": options.workers}

    def ours(processor: Processor, **changes: object) -> Iterable:
        source = {"all": Source(str(folder / "shards"))}
        return LocVLMDataModule(processor, source, **settings | changes).train_dataloader()

    loaders: dict[str, Callable[[], Iterable]] = {
        "webdataset + Pillow": lambda: webdataset(folder / "shards", pillow, join, settings),
        "webdataset + our decoding": lambda: webdataset(
            folder / "shards", processor, join, settings
        ),
        "locvlm": lambda: ours(processor),
    }
    if size[0] >= 2 * side:
        loaders["locvlm, reduced_decode"] = lambda: ours(reduced)
    if importlib.util.find_spec("litdata"):
        loaders["litdata + our decoding"] = litdata(samples, folder, processor, join, settings)
    if importlib.util.find_spec("datasets"):
        loaders["datasets + our decoding"] = hub(samples, processor, join, settings)
    rates: dict[str, list[float]] = {name: [] for name in loaders}
    built = {name: make_loader() for name, make_loader in loaders.items()}
    for _ in range(ROUNDS + 1):  # in turns: other work on the machine hits all of them
        for name, loader in built.items():
            rates[name].append(rate(loader))
    best = {name: max(found[1:]) for name, found in rates.items()}
    for name, value in best.items():
        yield name, value, value / best["webdataset + Pillow"]
    yield from beyond_decoding(samples, ours(processor, num_workers=0))


def rate(loader: Iterable) -> float:
    start = time.perf_counter()
    n_samples = sum(len(batch["input_ids"]) for batch in loader)
    return n_samples / (time.perf_counter() - start)


def beyond_decoding(samples: list[Sample], loader: Iterable) -> Iterator[tuple]:
    """The share of the loader's CPU time that is not the decoding of JPEGs."""
    whole, decoding = [], []
    for _ in range(ROUNDS):
        start = time.process_time()
        list(loader)
        whole.append(time.process_time() - start)
        start = time.process_time()
        for sample in samples:
            decode_image(sample.image, sample.source)
        decoding.append(time.process_time() - start)
    yield "locvlm: CPU ms per sample", 1000 * min(whole) / len(samples), None
    yield "of it decoding JPEGs", 1000 * min(decoding) / len(samples), None
    yield "share of the rest", 1 - min(decoding) / min(whole), None


def drawn(count: int, size: tuple[int, int]) -> Iterator[Sample]:
    rng = np.random.default_rng(0)
    messages = (Message("user", TALK[:1]), Message("assistant", TALK[1:]))
    pool = [photo(rng, size) for _ in range(40)]
    for n in range(count):
        yield Sample(f"{n}", "drawn", pool[n % len(pool)], size, messages=messages)


def photo(rng: np.random.Generator, size: tuple[int, int]) -> bytes:
    layers = np.zeros((size[1], size[0], 3))
    for cells, strength in ((4, 90), (16, 50), (64, 25), (200, 14)):
        noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        layers += (
            (np.asarray(noise.resize(size, Image.Resampling.BICUBIC)) - 128.0) / 128 * strength
        )
    buffer = io.BytesIO()
    Image.fromarray((128 + layers).clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
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
    return lambda: DataLoader(Encoded(rows, processor), collate_fn=join, **settings)


def hub(samples, processor, join, settings):
    import pyarrow
    from datasets import Dataset as Rows
    from datasets.table import InMemoryTable

    table = InMemoryTable(pyarrow.Table.from_pylist([row(sample) for sample in samples]))
    rows = Rows(table, fingerprint="drawn")  # its own would pickle the table, which some refuse
    return lambda: DataLoader(
        Encoded(rows, processor), collate_fn=join, persistent_workers=True, **settings
    )


def row(sample: Sample) -> dict[str, bytes]:
    from locvlm.data.records import to_record

    return {"jpg": sample.image or b"", "json": json.dumps(to_record(sample)).encode()}


if __name__ == "__main__":
    main()
