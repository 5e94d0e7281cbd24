import torch

from locvlm.data import collate
from locvlm.data.collate import join_images
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


def test_images_of_either_layout_are_joined_in_order():
    images = [torch.randint(0, 255, (n, 3, 5, 5), dtype=torch.uint8) for n in (2, 0, 1)]
    images.append(torch.randint(0, 255, (1, 5, 5, 3), dtype=torch.uint8).permute(0, 3, 1, 2))
    joined = join_images(images)
    assert joined.equal(torch.cat(images))
    assert joined.is_contiguous(memory_format=torch.channels_last)
