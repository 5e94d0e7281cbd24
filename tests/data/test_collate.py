import torch

from locvlm.data import collate
from locvlm.types import Sample
from tests.tiny import dialogue, make_processor, make_sample


def test_pads_on_the_right_and_stacks_all_images():
    processor = make_processor()
    text = Sample("text", "test")
    long, short = (
        processor.encode(make_sample(), dialogue()),
        processor.encode(text, [dialogue()[0]]),
    )
    batch = collate([long, short, long], processor.pad_id)
    n_long, n_short = len(long["input_ids"]), len(short["input_ids"])
    assert batch["input_ids"].shape == (3, n_long)
    assert batch["attention_mask"].sum(1).tolist() == [n_long, n_short, n_long]
    assert batch["attention_mask"].dtype == torch.bool
    assert batch["input_ids"][1, :n_short].equal(short["input_ids"])
    assert (batch["input_ids"][1, n_short:] == processor.pad_id).all()
    assert (batch["labels"][1, n_short:] == -100).all()
    assert (batch["loss_weights"][1, n_short:] == 0).all()
    assert batch["labels"][2].equal(long["labels"])
    assert batch["pixel_values"].shape == (2, 3, 32, 32)
    assert batch["pixel_values"][1].equal(long["pixel_values"][0])


def test_a_batch_of_texts_has_no_images():
    processor = make_processor()
    example = processor.encode(Sample("text", "test"), [dialogue()[0]])
    assert collate([example], processor.pad_id)["pixel_values"].shape == (0, 3, 32, 32)
