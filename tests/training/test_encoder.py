from functools import partial

import pytest
import torch

from locvlm.training import EncoderModule
from tests.models.conftest import make_model, make_processor

WORDS = {"shape": ["circle", "square"], "color": ["red"]}


@pytest.fixture
def module():
    torch.manual_seed(0)
    optimizer = partial(lambda named: torch.optim.AdamW([p for _, p in named], lr=3e-3))
    module = EncoderModule(make_model(make_processor()), optimizer, words=WORDS)
    module.log_dict = lambda *args, **options: None
    return module


@pytest.fixture
def batch(module):
    encoder = module.model.encoder
    side = encoder.image_size
    shapes = torch.tensor([1, 2]).repeat(4)
    images = (shapes.float() - 1.5).view(-1, 1, 1, 1).expand(-1, 3, side, side)
    labels = torch.stack([shapes, torch.ones_like(shapes)], dim=1)
    return {
        "pixel_values": images.contiguous(),
        "labels": labels[:, :, None].expand(-1, -1, encoder.n_patches).contiguous(),
    }


def test_patches_learn_to_name_what_they_show(module, batch):
    optimizer = module.configure_optimizers()
    losses = []
    for step in range(40):
        loss = module.training_step(batch, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("shown", [0, 1, 2])
def test_the_accuracy_is_that_of_patches_that_show_an_object(module, batch, shown):
    told = {}
    module.log_dict = lambda figures, **options: told.update(figures)
    labels = batch["labels"].zero_()
    labels[:, :, :shown] = 1
    module.training_step(batch, 0)
    features = module.model.features(batch["pixel_values"])
    right = [
        all(head(patch).argmax() == 1 for head in module.heads)
        for image in features
        for patch in image[:shown]
    ]
    assert told["train/patch_accuracy"] == pytest.approx(sum(right) / max(1, len(right)))


def test_only_the_encoder_and_the_heads_learn(module, batch):
    module.training_step(batch, 0).backward()
    for name, parameter in module.named_parameters():
        learns = name.startswith(("model.encoder", "heads", "position_head"))
        assert parameter.requires_grad == learns, name


def test_optimizers_are_told_names_without_the_modules_prefix(module):
    named = []
    module.optimizer = lambda pairs: (
        named.extend(name for name, _ in pairs) or torch.optim.SGD([p for _, p in pairs], lr=0.1)
    )
    module.configure_optimizers()
    assert any(name.startswith("encoder.") for name in named)
    assert any(name.startswith("heads.") for name in named)
    assert not any(name.startswith("model.") for name in named)
