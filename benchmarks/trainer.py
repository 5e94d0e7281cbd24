"""Training beside transformers' Trainer: `python benchmarks/trainer.py`.

A tiny LLaVA (image tokens and vocabulary of LLaVA-1.5, small widths, random weights, frozen
encoder) learns the same conversations about the same JPEGs from the same shards, once by locvlm and
once by `Trainer` with `LlavaForConditionalGeneration` and `LlavaProcessor`, batches grouped by
length. Lengths are those of benchmarks/packing.py. Each runs in a process of its own, in turns.
"""

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random
from statistics import mean, median
from typing import Any

import numpy as np
import torch
from loader import photo
from packing import talk
from PIL import Image
from prefix import Shape, make
from run import machine

from locvlm.cli import print_table
from locvlm.data import LocVLMDataModule, Quarantine, Source, write_shards
from locvlm.data.shards import Shards
from locvlm.models.llava_export import export_llava
from locvlm.types import Sample

SHAPE, VOCABULARY = Shape("tiny", 336, 14, 256, 4), 32_000
WARM_UP = 2  # steps that are not timed
RATE = 3e-4


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--run", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.run:
        name, folder = options.run
        print(json.dumps(RUNS[name](Path(folder), options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), options.steps * options.batch_size)
        found: dict[str, list[dict[str, float]]] = {name: [] for name in RUNS}
        for _ in range(options.rounds):
            for name in RUNS:
                command = [sys.executable, __file__, "--run", name, folder, *sys.argv[1:]]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found[name].append(json.loads(done.stdout.splitlines()[-1]))
    rates = {name: median(run["rate"] for run in runs) for name, runs in found.items()}
    rows = [
        (
            name,
            rates[name],
            rates[name] / rates["transformers"],
            median(run["loss"] for run in runs),
            round(median(run["peak"] for run in runs)),
        )
        for name, runs in found.items()
    ]
    columns = ["trainer", "samples/s", "of transformers", "loss at the end", "peak MB"]
    print_table(f"batches of {options.batch_size}; {machine()}", columns, rows)


def prepare(folder: Path, n_samples: int) -> None:
    rng, words = np.random.default_rng(0), Random(0)
    pool = [photo(rng, (640, 480)) for _ in range(40)]
    samples = (
        Sample(f"{n}", "drawn", pool[n % len(pool)], (640, 480), messages=tuple(talk(words)))
        for n in range(n_samples)
    )
    write_shards(samples, folder / "shards", quarantine=Quarantine(), per_shard=200)
    model = make(SHAPE, VOCABULARY)
    model.save_pretrained(folder / "model")
    export_llava(model, folder / "llava")


def ours(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    import lightning

    from locvlm import LocVLM, LocVLMModule
    from locvlm.training import adamw

    model = LocVLM.from_pretrained(folder / "model")
    optimizer = partial(adamw, lr=RATE)
    module = LocVLMModule(model, optimizer, trained=("adapter", "language_model"))
    data = LocVLMDataModule(
        model.processor,
        {"talks": Source(str(folder / "shards"))},
        batch_size=options.batch_size,
        num_workers=1,
        pack=True,
    )
    clock = Clock(options.batch_size)

    class Steps(lightning.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            clock.tick(float(outputs["loss"]))

    trainer = lightning.Trainer(
        accelerator="cpu",
        max_steps=options.steps,
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Steps()],
    )
    trainer.fit(module, datamodule=data)
    return clock.figures()


def theirs(folder: Path, options: argparse.Namespace) -> dict[str, float]:
    from transformers import (
        AutoProcessor,
        LlavaForConditionalGeneration,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )
    from transformers.trainer_pt_utils import LengthGroupedSampler

    class Grouped(Trainer):
        def _get_train_sampler(self, *_):  # as LLaVA's own trainer does
            lengths = self.train_dataset.lengths
            return LengthGroupedSampler(self.args.train_batch_size, lengths=lengths)

    model = LlavaForConditionalGeneration.from_pretrained(folder / "llava")
    model.model.vision_tower.requires_grad_(False)
    processor = AutoProcessor.from_pretrained(folder / "llava")
    clock = Clock(options.batch_size)

    class Steps(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            if "loss" in (logs or {}):
                clock.tick(logs["loss"])

    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"),
        per_device_train_batch_size=options.batch_size,
        max_steps=options.steps,
        learning_rate=RATE,
        lr_scheduler_type="constant",
        max_grad_norm=1.0,
        dataloader_num_workers=1,
        dataloader_persistent_workers=True,
        remove_unused_columns=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    Grouped(
        model=model,
        args=arguments,
        train_dataset=Talks(folder / "shards"),
        data_collator=partial(joined, processor),
        callbacks=[Steps()],
    ).train()
    return clock.figures()


class Talks(torch.utils.data.Dataset):
    """Images and turns of shards, and how long they are."""

    def __init__(self, folder: Path):
        self.shards = Shards(folder)
        self.lengths = [
            sum(len(part) for message in self.shards[n].messages for part in message.parts)
            for n in range(len(self.shards))
        ]

    def __len__(self) -> int:
        return len(self.shards)

    def __getitem__(self, n: int) -> dict[str, Any]:
        sample = self.shards[n]
        question, answer = ("".join(map(str, message.parts)) for message in sample.messages)
        return {"image": sample.image, "question": question, "answer": answer}


def joined(processor: Any, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """A padded batch whose labels are the answers."""
    images = [Image.open(io.BytesIO(row["image"])).convert("RGB") for row in rows]
    prompts, whole = [], []
    for row in rows:
        content = [{"type": "image"}, {"type": "text", "text": row["question"]}]
        asked = [{"role": "user", "content": content}]
        said = [{"role": "assistant", "content": [{"type": "text", "text": row["answer"]}]}]
        prompts.append(processor.apply_chat_template(asked, add_generation_prompt=True))
        whole.append(processor.apply_chat_template(asked + said))
    processor.tokenizer.padding_side = "right"
    batch = processor(text=whole, images=images, padding=True, return_tensors="pt")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    n_patches = int((batch["input_ids"][0] == processor.image_token_id).sum())
    for row, prompt in zip(labels, prompts, strict=True):
        row[: len(processor.tokenizer(prompt).input_ids) - 1 + n_patches] = -100
    return {**batch, "labels": labels}


class Clock:
    """Times all steps behind the first ones."""

    def __init__(self, batch_size: int):
        self.batch_size = batch_size
        self.times: list[float] = []
        self.losses: list[float] = []

    def tick(self, loss: float) -> None:
        self.times.append(time.perf_counter())
        self.losses.append(loss)

    def figures(self) -> dict[str, float]:
        took = self.times[-1] - self.times[WARM_UP - 1]
        return {
            "rate": (len(self.times) - WARM_UP) * self.batch_size / took,
            "loss": mean(self.losses[-10:]),
            "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }


RUNS = {"locvlm": ours, "transformers": theirs}


if __name__ == "__main__":
    main()
