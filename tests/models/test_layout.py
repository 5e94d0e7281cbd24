import pytest
import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)

from locvlm.data.collate import collate, n_samples
from locvlm.data.packing import pack
from locvlm.errors import DataError
from locvlm.models.layout import find_layout
from locvlm.models.loss import learned_weight
from locvlm.processor import IGNORE_INDEX
from tests.tiny import dialogue, make_sample

IMAGE = 9


def test_a_packed_batch_by_hand():
    ids = torch.tensor([[9, 9, 1, 2, 9, 9, 3], [9, 9, 4, 5, 0, 0, 0]])
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3]).bool()
    labels = torch.tensor([[-100, -100, -100, 2, -100, -100, 3], [-100, -100, 4, 5] + [-100] * 3])
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2], [0, 1, 2, 3, 0, 0, 0]])
    found = find_layout(ids, IMAGE, mask, labels, positions)
    assert found.images.tolist() == [0, 1, 4, 5, 7, 8]
    assert found.learned.tolist() == [2, 5, 8, 9]
    assert found.examples == (
        (0, slice(0, 4)),
        (0, slice(4, 7)),
        (1, slice(0, 4)),
        (1, slice(4, 7)),  # padding
    )
    assert found.n_examples == 3
    assert found.to("meta").learned.is_meta


def test_rows_that_are_not_packed_are_examples():
    found = find_layout(torch.tensor([[9, 1], [1, 0]]), IMAGE)
    assert (found.learned, found.examples, found.n_examples) == (None, None, 2)


def test_the_first_token_of_a_row_is_never_learned():
    ids = torch.ones(2, 3, dtype=torch.long)
    assert find_layout(ids, IMAGE, labels=ids).learned.tolist() == [0, 1, 3, 4]
    nothing = torch.full_like(ids, IGNORE_INDEX)
    assert len(find_layout(ids, IMAGE, labels=nothing).learned) == 0


def made(processor, model, join):
    examples = [processor.encode(make_sample(color), dialogue()) for color in ("red", "blue")]
    batch = join(examples, processor.pad_id)
    names = ("input_ids", "attention_mask", "labels", "position_ids")
    given = {name: batch.get(name) for name in names}
    return batch, find_layout(image_token_id=model.image_token_id, **given)


@pytest.mark.parametrize("join", [collate, pack])
def test_the_loss_is_the_same_where_it_is_made_beforehand(model, processor, join):
    batch, layout = made(processor, model, join)
    assert torch.equal(model(**batch), model(**batch, layout=layout))
    assert n_samples({**batch, "layout": layout}) == n_samples(batch) == 2


@pytest.mark.parametrize("join", [collate, pack])
def test_a_step_reads_nothing_from_its_device(model, processor, join):
    batch, layout = made(processor, model, join)
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:  # its tensors hold no values
        batch = {name: fake.from_tensor(tensor) for name, tensor in batch.items()}
        model(**batch, layout=layout).backward()
        learned_weight(batch["labels"], batch["loss_weights"])
        with pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
            model(**batch)
    model.zero_grad()


def test_padding_on_the_left_is_refused():
    with pytest.raises(DataError, match="padding stands on the left"):
        find_layout(torch.ones(1, 2).long(), IMAGE, torch.tensor([[False, True]]))
