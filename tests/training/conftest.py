"""Tiny data and trainers without noise."""

import logging
from functools import partial

import pytest
from lightning import LightningDataModule, Trainer
from torchdata.stateful_dataloader import StatefulDataLoader

from locvlm.data.collate import collate
from locvlm.types import Box
from tests.tiny import dialogue, make_processor, make_sample

COLORS = ["red", "blue", "green", "yellow", "purple", "orange", "white", "black"]


class Dialogues(LightningDataModule):
    """Eight dialogues in batches of two."""

    def __init__(self):
        super().__init__()
        processor = make_processor()
        self.examples = [
            processor.encode(make_sample(color), dialogue(Box(n, 2 * n, 3 * n + 4, 2 * n + 6)))
            for n, color in enumerate(COLORS)
        ]
        self.collate = partial(collate, pad_id=processor.pad_id)

    def train_dataloader(self):
        return StatefulDataLoader(self.examples, batch_size=2, collate_fn=self.collate)

    def val_dataloader(self):
        return StatefulDataLoader(self.examples[:2], batch_size=2, collate_fn=self.collate)


@pytest.fixture(scope="session")
def dialogues():
    return Dialogues


@pytest.fixture
def trainer(tmp_path):
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    quiet = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "default_root_dir": tmp_path,
    }
    return lambda **options: Trainer(**(quiet | options))
