"""Prints what packing is worth where lengths differ: `python benchmarks/packing.py`.

Conversations have lengths as LLaVA's instruct data have them around the image: most are short, some
are ten times as long (log-normal, median 90 tokens, sigma 0.9, at most 1,500). Padded and packed
batches hold the same samples; the model is the demo's, with random weights.
"""

from random import Random

from run import machine, parts, seconds

from locvlm.cli import print_table
from locvlm.data.collate import collate, n_samples
from locvlm.data.packing import pack
from locvlm.scenes import World, scenes
from locvlm.types import Message

BATCHES = 4


def main() -> None:
    cfg, processor, model = parts("ivb")
    model.train()
    model.encoder.requires_grad_(False)
    rng = Random(0)
    rows = []
    for batch_size in (16, 32, 64):
        examples = [
            [processor.encode(scene.sample(), talk(rng)) for scene in group]
            for group in groups(batch_size)
        ]
        rates = []
        for name, join in (("padded", collate), ("packed", pack)):
            batches = [join(group, processor.pad_id) for group in examples]
            padding = 1 - sum(int(b["attention_mask"].sum()) for b in batches) / sum(
                b["attention_mask"].numel() for b in batches
            )
            took = seconds(lambda batches=batches: [step(model, batch) for batch in batches])
            rates.append(sum(map(n_samples, batches)) / took)
            rows.append((name, batch_size, padding, rates[-1], rates[-1] / rates[0]))
    columns = ["batch", "samples", "padding", "samples/s", "ratio"]
    print_table(machine(), columns, rows)


def groups(batch_size: int) -> list[list]:
    drawn = list(scenes(World(), "train", batch_size * BATCHES))
    return [drawn[first : first + batch_size] for first in range(0, len(drawn), batch_size)]


def talk(rng: Random) -> list[Message]:
    n_words = min(1500, round(rng.lognormvariate(4.5, 0.9)))
    answer = " ".join(rng.choices(["red", "blue", "circle", "square", "left", "right"], k=n_words))
    return [Message("user", ("Describe the image.",)), Message("assistant", (answer,))]


def step(model, batch) -> None:
    model.zero_grad()
    model(**batch).backward()


if __name__ == "__main__":
    main()
