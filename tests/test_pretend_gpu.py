"""What only a GPU would show: tensors left on the CPU, and waiting for the device."""

from functools import partial

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback

from locvlm import LocVLMModule, images
from locvlm.data.collate import collate
from locvlm.data.packing import pack
from locvlm.models import loss
from locvlm.models.inputs import to_sample
from locvlm.models.lora import add_lora
from locvlm.training import Bar, FiniteLoss, OutOfMemory, RandomState, Throughput, adamw, cosine
from locvlm.training.strategies import checkpoint_activations, compile_blocks
from locvlm.types import Message
from tests.pretend_gpu import GPU, PretendGPU, PretendStrategy, WrongDeviceError
from tests.tiny import ask, dialogue, make_model, make_sample
from tests.training.conftest import Dialogues


class Waits(Callback):
    """What each step waited for, from its beginning to that of the next."""

    def __init__(self, gpu):
        self.gpu, self.marks = gpu, []

    def on_train_batch_start(self, *_):
        self.marks.append(len(self.gpu.waits))

    def of(self, step):
        return self.gpu.waits[self.marks[step] : self.marks[step + 1]]


class Lengths(Dialogues):
    """Batches of four dialogues of other lengths, in rows of two where they are packed."""

    def __init__(self, join):
        super().__init__()
        processor = make_model().processor
        self.collate = partial(join, pad_id=processor.pad_id)
        self.examples = [
            processor.encode(
                make_sample(), [*dialogue(), *ask("left"), Message("assistant", ("red " * n,))]
            )
            for n in (3, 9, 3, 9, 3, 9, 3, 9)
        ]


def trained(folder, gpu, join, prepare=lambda model: model, parts=("adapter", "language_model")):
    """A short training on the GPU with the callbacks that commands have, and its waits."""
    module = LocVLMModule(prepare(make_model()), partial(adamw, lr=1e-3), cosine, trained=parts)
    waits, bar = Waits(gpu), Bar()
    bar.disable()  # in so short a run it would say something at each step
    run = Trainer(
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        strategy=PretendStrategy(),
        max_steps=3,
        limit_val_batches=1,
        gradient_clip_val=1.0,
        enable_progress_bar=True,
        log_every_n_steps=10,
        callbacks=[bar, Throughput(), RandomState(), FiniteLoss(), OutOfMemory(), waits],
    )
    run.fit(module, datamodule=Lengths(join))
    return run, waits


@pytest.mark.parametrize("join", [collate, pack])
def test_a_training_step_waits_for_its_gpu_once(tmp_path, join):
    with PretendGPU() as gpu:
        run, waits = trained(tmp_path, gpu, join)
    assert run.callback_metrics["train/loss"] > 0
    assert [waits.of(step) for step in (0, 1)] == [
        [("aten._local_scalar_dense.default", "guards.py")]
    ] * 2


VARIANTS = {
    "lora": (partial(add_lora, rank=4, alpha=8, dropout=0.1), ("adapter", "lora")),
    "adapter alone": (lambda model: model, ("adapter",)),
    "all parts": (lambda model: model, ("encoder", "adapter", "language_model")),
    "activations again": (checkpoint_activations, ("adapter", "language_model")),
    "compiled": (partial(compile_blocks, backend="eager"), ("adapter", "language_model")),
}


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_kind_of_training_stays_on_the_gpu(tmp_path, monkeypatch, variant):
    monkeypatch.setattr(loss, "AT_ONCE", 200)  # logits piece by piece
    prepare, parts = VARIANTS[variant]
    with PretendGPU() as gpu:
        run, waits = trained(tmp_path, gpu, pack, prepare, parts)
    assert run.global_step == 3
    assert len(waits.of(1)) == 1


def test_a_tensor_left_on_the_cpu_is_found(tmp_path, monkeypatch):
    left = images._per_channel
    monkeypatch.setattr(images, "_per_channel", lambda values, device: left(values, "cpu"))
    with PretendGPU() as gpu, pytest.raises(WrongDeviceError, match=r"sub.*\(3, 1, 1\)"):
        trained(tmp_path, gpu, collate)


@pytest.fixture
def models():
    """One on the CPU and the same on the GPU."""
    here, there = make_model(), make_model()
    with PretendGPU():
        there.to(GPU)
    return here, there


def prompts(model, n_questions):
    """Questions about two images."""
    made = []
    for color in ("red", "blue"):
        sample = make_sample(color)
        pixels = model.processor.pixel_values(sample)
        texts = ["Where is the red circle? " + "left " * n for n in range(n_questions)]
        made += [model.processor.prompt(sample, ask(text), pixels) for text in texts]
    return made


@pytest.mark.parametrize("n_questions", [1, 3])
def test_answers_are_those_of_the_cpu_and_each_token_is_read_once(models, n_questions):
    here, there = models
    asked = prompts(here, n_questions)
    waits = []
    for n_tokens in (3, 4):
        expected = here.generate(asked, max_new_tokens=n_tokens)
        with PretendGPU() as gpu:
            assert there.generate(asked, max_new_tokens=n_tokens) == expected
        waits.append([wait for wait in gpu.waits if wait[1] == "generation.py"])
    assert waits[1] == [*waits[0], ("tolist", "generation.py")]


def test_likelihoods_are_those_of_the_cpu(models):
    here, there = models
    asked = prompts(here, 2)
    candidates = [["Yes.", "No.", "It is located at [1, 2, 3, 4] bbox."]] * len(asked)
    expected = here.score(asked, candidates)
    with PretendGPU():
        found = there.score(asked, candidates)
    torch.testing.assert_close(torch.tensor(found), torch.tensor(expected), rtol=1e-5, atol=1e-5)


def test_drawn_answers_and_images_on_the_gpu(models):
    _, there = models
    with PretendGPU():
        said = there.generate(prompts(there, 2), max_new_tokens=3, temperature=1.0, top_p=0.9)
        sample = to_sample(torch.rand(3, 20, 16, device="cuda"))
    assert len(said) == 4
    assert sample.size == (16, 20)
