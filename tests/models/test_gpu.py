"""What only a GPU would show of answers: tensors left on the CPU, and waiting for the device."""

import pytest
import torch

from locvlm.models.inputs import to_sample
from tests.pretend_gpu import GPU, PretendGPU
from tests.tiny import ask, make_model, make_sample


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
