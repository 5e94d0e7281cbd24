import dataclasses
import json
import logging
from functools import partial

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from locvlm.data import LocVLMDataModule, Quarantine, Source, write_shards
from locvlm.errors import ConfigError
from locvlm.geometry import Geometry, crop, pad
from locvlm.models import TimmEncoder
from locvlm.objectives import LocPred, Mix
from locvlm.training import CacheFeatures, LocVLMModule
from locvlm.training.features import open_features
from tests.data.conftest import annotated, talked
from tests.tiny import ENCODER, make_model, make_processor

SGD = partial(torch.optim.SGD, lr=0.1)


class Losses(Callback):
    """Writes down each step's loss, and how many images the encoder has seen by then."""

    def __init__(self):
        self.steps, self.encoded = [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.steps.append(outputs["loss"].item())
        self.encoded.append(pl_module.model.encoder.n_encoded)


def counting(model):
    """Counts the images that go through the encoder's blocks."""
    encoder, read = model.encoder, model.encoder.vit.forward_intermediates
    encoder.n_encoded = 0

    def forward(images, **options):
        encoder.n_encoded += len(images)
        return read(images, **options)

    encoder.vit.forward_intermediates = forward
    return model


@pytest.fixture
def folders(tmp_path):
    """Shards of six talks, one image in two of them, and a text; and of two images to ask about."""
    text_only = dataclasses.replace(talked(9), image=None, size=None)
    samples = [*map(talked, range(5)), dataclasses.replace(talked(0), key="again"), text_only]
    for name, own in (("train", samples), ("val", [annotated(20), annotated(21)])):
        write_shards(own, tmp_path / name, quarantine=Quarantine(), per_shard=4)
    return tmp_path


@pytest.fixture
def fit(folders, trainer):
    """Trains the adapter for two epochs."""
    objective = Mix([LocPred(["Where is the object described {category}?"])], [1], turns=1)

    def run(*callbacks, model=None, trained=("adapter",), **options):
        model = counting(model or make_model())
        data = LocVLMDataModule(
            model.processor,
            {"talk": Source(str(folders / "train"))},
            {"boxes": Source(str(folders / "val"), objective)},
            batch_size=2,
            **options,
        )
        losses = Losses()
        fitted = trainer(max_epochs=2, callbacks=[*callbacks, losses])
        fitted.fit(LocVLMModule(model, SGD, trained=trained), datamodule=data)
        return model, losses, float(fitted.callback_metrics["val/loss"])

    return run


@pytest.mark.parametrize("options", [{}, {"pack": True}, {"num_workers": 1}])
def test_losses_are_those_without_a_cache_and_no_epoch_encodes(fit, folders, options):
    plain, expected, expected_val = fit(**options)
    cached, losses, val = fit(CacheFeatures(str(folders / "kept"), "float32"), **options)
    assert losses.steps == pytest.approx(expected.steps, abs=1e-6)
    assert val == pytest.approx(expected_val, abs=1e-6)
    assert torch.allclose(cached.adapter.net[0].weight, plain.adapter.net[0].weight, atol=1e-6)
    assert len(losses.steps) == 8
    assert expected.encoded[-1] == 14  # six images an epoch, and two of validation between them
    assert set(losses.encoded) == {7}  # five images of six talks and two of validation, before it


def test_another_run_encodes_nothing(fit, folders):
    _, first, _ = fit(CacheFeatures(str(folders / "kept")))
    _, second, _ = fit(CacheFeatures(str(folders / "kept")))
    assert second.steps == first.steps
    assert second.encoded[-1] == 0


def test_what_was_interrupted_goes_on(fit, folders):
    fit(CacheFeatures(str(folders / "kept")))
    lost = list((folders / "kept").glob("*/*/*"))[:3]
    for path in lost:
        path.unlink()
    _, losses, _ = fit(CacheFeatures(str(folders / "kept")))
    assert losses.encoded[0] == 3
    assert all(path.is_file() for path in lost)


def test_another_encoder_does_not_read_what_is_there(fit, folders):
    fit(CacheFeatures(str(folders / "kept"), "float32"))
    other = make_model(seed=1)
    _, losses, _ = fit(CacheFeatures(str(folders / "kept"), "float32"), model=other)
    assert losses.encoded[0] == 7
    assert losses.steps == pytest.approx(fit(model=make_model(seed=1))[1].steps, abs=1e-6)


def test_all_that_features_depend_on_names_their_folder(tmp_path):
    encoder, processor = make_model().encoder, make_processor()

    def opened(encoder=encoder, processor=processor, dtype=torch.float32):
        return open_features(tmp_path, encoder, processor, dtype).folder

    def other(**options):
        made = TimmEncoder("vit_tiny_patch16_224", 32, 8, options=ENCODER, **options)
        made.load_state_dict(encoder.state_dict())
        return made

    padded, cropped = make_processor(), make_processor()
    padded.geometry, cropped.geometry = pad, crop
    weights = make_model().encoder
    with torch.no_grad():
        weights.vit.blocks[0].norm1.bias[0] += 1e-6
    found = [
        opened(),
        opened(weights),
        opened(other(layer=-1)),
        opened(other(layer=-1, norm=True)),
        opened(other(std=(0.4, 0.5, 0.5))),
        opened(processor=padded),
        opened(processor=cropped),
        opened(processor=make_processor(mean=(0.4, 0.5, 0.5))),
        opened(processor=make_processor(reduced_decode=True)),
        opened(dtype=torch.bfloat16),
    ]
    assert len(set(found)) == len(found)
    assert opened(other()) == opened(processor=make_processor(max_length=99)) == found[0]
    about = json.loads((found[0] / "about.json").read_text())
    assert about["encoder"]["layer"] == -2


def test_half_precision_is_near(fit, folders):
    _, expected, _ = fit()
    for dtype in ("bfloat16", "float16"):
        _, losses, _ = fit(CacheFeatures(str(folders / "kept"), dtype))
        assert losses.steps[0] == pytest.approx(expected.steps[0], rel=0.01)
        assert losses.steps != expected.steps


def test_numbers_that_float16_does_not_have_are_refused(fit, folders):
    model = make_model()
    with torch.no_grad():
        model.encoder.vit.blocks[1].mlp.fc2.bias.fill_(1e6)
    with pytest.raises(ConfigError, match=r"do not fit into torch.float16(?s:.*)bfloat16"):
        fit(CacheFeatures(str(folders / "kept"), "float16"), model=model)


def test_the_size_is_told_before_the_first_image_is_encoded(fit, folders, caplog):
    caplog.set_level(logging.INFO, "locvlm")
    fit(CacheFeatures(str(folders / "kept")))
    said = caplog.messages[0]
    assert said.startswith("features of up to 9 images take up to 0.0 GiB in ")
    assert said.endswith("GiB are free")


def test_an_image_that_cannot_be_read_is_skipped_as_without_a_cache(fit, folders):
    samples = [*map(talked, range(5)), dataclasses.replace(talked(7), image=b"\x89PNG of old")]
    write_shards(samples, folders / "train", quarantine=Quarantine(), per_shard=4)
    _, expected, _ = fit()
    _, losses, _ = fit(CacheFeatures(str(folders / "kept"), "float32"))
    assert losses.steps == pytest.approx(expected.steps, abs=1e-6)


def test_a_stage_that_trains_the_encoder_is_refused(fit, folders):
    with pytest.raises(ConfigError, match=r"this stage trains the encoder(?s:.*)callbacks=default"):
        fit(CacheFeatures(str(folders / "kept")), trained=("encoder", "adapter"))
    assert not (folders / "kept").exists()


def test_a_geometry_that_may_change_is_refused(fit, folders):
    model = make_model(make_processor())
    model.processor.geometry = lambda width, height: Geometry(0, 0, width, height).flip()
    with pytest.raises(ConfigError, match="in another way each time"):
        fit(CacheFeatures(str(folders / "kept")), model=model)


def test_data_without_shards_are_refused(trainer, dialogues, tmp_path):
    module = LocVLMModule(make_model(), SGD, trained=["adapter"])
    with pytest.raises(ConfigError, match="Dialogues has no shards"):
        trainer(max_epochs=1, callbacks=[CacheFeatures(str(tmp_path))]).fit(
            module, datamodule=dialogues()
        )


def test_other_types_are_refused(tmp_path):
    with pytest.raises(
        ConfigError, match=r"cannot be 'int8'(?s:.*)features.dtype(?s:.*)bfloat16, float16, float32"
    ):
        CacheFeatures(str(tmp_path), "int8")
