import shutil

import pytest
import torch
from PIL import Image

from locvlm.errors import CheckpointError, ConfigError, DataError
from locvlm.models.inputs import to_sample
from locvlm.predictors.locvlm import LocVLMPredictor
from locvlm.types import Box, Message, Question, Sample


@pytest.fixture(scope="module")
def predictor(checkpoint):
    return LocVLMPredictor(checkpoint, batch_size=2, max_new_tokens=4)


@pytest.fixture
def questions():
    samples = [to_sample(Image.new("RGB", (40, 30), color)) for color in ("red", "blue")]
    texts = ["Where is the red circle?", "Is there a blue square?", "Describe the object."]
    return [
        Question(f"{n} {text}", sample, (Message("user", (text,)),), ("Yes.", "No."))
        for n, sample in enumerate(samples)
        for text in texts
    ]


def test_batches_give_the_answers_of_single_questions_in_their_order(predictor, questions):
    alone = [predictor.answer([question])[0] for question in questions]
    assert predictor.answer(questions) == alone
    assert len(set(alone)) > 1


def test_scores_every_candidate_in_order(predictor, questions):
    scores = predictor.score(questions)
    assert [len(score) for score in scores] == [2] * 6
    assert scores[3] == pytest.approx(predictor.score([questions[3]])[0], abs=1e-4)
    assert all(value < 0 for score in scores for value in score)


def test_locations_come_back_in_pixels_of_the_image(predictor, questions):
    located = predictor.decode("It is located at [8, 16, 16, 32] bbox.", questions[0])
    assert located.boxes == [Box(10, 15, 20, 30)]


def test_a_question_without_an_image_has_no_locations(predictor):
    question = Question("a", Sample("words", "test"), (Message("user", ("Why?",)),))
    with pytest.raises(DataError, match="without an image"):
        predictor.decode("[1, 2, 3, 4]", question)


def test_the_identity_follows_the_files_and_the_decoding_but_not_the_place(
    checkpoint, predictor, tmp_path
):
    copy = shutil.copytree(checkpoint, tmp_path / "model")
    assert LocVLMPredictor(copy, max_new_tokens=4).identity == predictor.identity
    assert LocVLMPredictor(copy, max_new_tokens=5).identity != predictor.identity
    with (copy / "processor.json").open("a") as file:
        file.write("\n")
    assert LocVLMPredictor(copy, max_new_tokens=4).identity != predictor.identity


def test_sampling_is_repeated_by_its_seed(checkpoint, questions):
    def answers(seed):
        return LocVLMPredictor(checkpoint, temperature=2.0, seed=seed, max_new_tokens=8).answer(
            questions[:1]
        )

    assert answers(1) == answers(1)
    assert answers(1) != answers(2)


def test_the_seed_belongs_to_the_identity_where_tokens_are_drawn(checkpoint):
    def seeds(temperature):
        made = [LocVLMPredictor(checkpoint, temperature=temperature, seed=n) for n in (1, 2)]
        return [predictor.identity for predictor in made]

    greedy, drawn = seeds(0.0), seeds(1.0)
    assert greedy[0] == greedy[1]
    assert drawn[0] != drawn[1]


def test_answers_in_another_type_are_those_of_another_predictor(checkpoint, predictor, questions):
    half = LocVLMPredictor(checkpoint, dtype="bfloat16", batch_size=2, max_new_tokens=4)
    assert {weight.dtype for weight in half.model.parameters()} == {torch.bfloat16}
    assert half.identity == {**predictor.identity, "dtype": "bfloat16"}
    rounded, stored = half.score(questions), predictor.score(questions)
    assert rounded != stored
    for few, many in zip(rounded, stored, strict=True):
        assert few == pytest.approx(many, rel=0.05)
    assert len(half.answer(questions)) == 6


def test_refuses_a_type_before_anything_is_loaded(tmp_path):
    with pytest.raises(ConfigError, match="cannot be 'half'") as raised:
        LocVLMPredictor(tmp_path / "nothing", dtype="half")
    assert raised.value.where == "dtype"


def test_refuses_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(CheckpointError, match="no such folder"):
        LocVLMPredictor(tmp_path / "nothing")


def test_refuses_a_device_that_does_not_exist(checkpoint):
    with pytest.raises(ConfigError, match="quantum"):
        LocVLMPredictor(checkpoint, device="quantum")


def test_refuses_a_batch_of_nothing(checkpoint):
    with pytest.raises(ConfigError, match="batch_size must be at least 1, got 0"):
        LocVLMPredictor(checkpoint, batch_size=0)


def test_an_image_is_decoded_once_for_all_questions_of_a_batch(checkpoint, questions, monkeypatch):
    predictor = LocVLMPredictor(checkpoint, batch_size=3, max_new_tokens=2)
    decoded, decode = [], predictor.processor.pixel_values
    monkeypatch.setattr(
        predictor.processor, "pixel_values", lambda sample: decoded.append(1) or decode(sample)
    )
    predictor.answer([questions[n] for n in (0, 3, 1, 4, 2, 5)])
    assert len(decoded) == 2
