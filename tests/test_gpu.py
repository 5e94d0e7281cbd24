"""`pytest -m gpu`, on a machine that has one; the same on the CPU elsewhere."""

import pytest
import torch

from locvlm.data.packing import pack
from locvlm.models.layout import find_layout
from locvlm.types import Message
from tests.tiny import ask, dialogue, make_model, make_sample

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def learned(model, batch):
    """The loss of a packed batch and its gradients, as training computes them."""
    names = ("input_ids", "attention_mask", "labels", "position_ids")
    given = {name: batch[name] for name in names}
    layout = find_layout(image_token_id=model.image_token_id, **given).to(model.device)
    moved = {name: tensor.to(model.device) for name, tensor in batch.items()}
    loss = model(**moved, layout=layout)
    loss.backward()
    weights = model.named_parameters()  # none in blocks behind the one that is read
    gradients = {name: one.grad.cpu() for name, one in weights if one.grad is not None}
    return loss.item(), gradients


@pytest.mark.parametrize("device", DEVICES)
def test_losses_and_gradients_are_those_of_the_cpu(device):
    here, there = make_model(), make_model().to(device)
    talk = [[*dialogue(), *ask("left"), Message("assistant", ("red " * n,))] for n in (2, 9, 3)]
    processor = here.processor
    examples = [processor.encode(make_sample(), messages) for messages in talk]
    batch = pack(examples, processor.pad_id)
    (expected, wanted), (loss, found) = learned(here, batch), learned(there, batch)
    assert loss == pytest.approx(expected, rel=1e-4)
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("device", DEVICES)
def test_answers_and_likelihoods_are_those_of_the_cpu(device):
    here, there = make_model(), make_model().to(device)
    sample = make_sample()
    pixels = here.processor.pixel_values(sample)
    prompts = [
        here.processor.prompt(sample, ask("Where is the " + "red " * n), pixels) for n in range(3)
    ]
    assert there.generate(prompts, max_new_tokens=5) == here.generate(prompts, max_new_tokens=5)
    candidates = [["Yes.", "No."]] * 3
    found, expected = there.score(prompts, candidates), here.score(prompts, candidates)
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=1e-4, atol=1e-3)
