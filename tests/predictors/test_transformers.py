import json
import shutil

import pytest
import torch
import transformers
from hydra import compose, initialize_config_module
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from PIL import Image

import locvlm.evaluate  # noqa: F401  (it registers the schema)
from locvlm.chat import ChatFormat
from locvlm.dialects import fractions
from locvlm.errors import CheckpointError, ConfigError, DataError
from locvlm.models import LocVLM
from locvlm.models.llava_export import export_llava
from locvlm.predictors.locvlm import LocVLMPredictor
from locvlm.predictors.transformers import TransformersPredictor
from locvlm.types import Box, Message, Question, Sample
from tests import vlms
from tests.tiny import make_sample

FAST = (
    "checkpoint=x",
    "predictor.max_new_tokens=6",
    "predictor.batch_size=4",
    "predictor.device=cpu",
)
# A model of tests/vlms.py, its class, and how its family's config writes a conversation.
IN_CONTEXT = {
    "llava1_5": (
        "llava",
        "LlavaForConditionalGeneration",
        "A chat between a curious user and an artificial intelligence assistant. The assistant "
        "gives helpful, detailed, and polite answers to the user's questions. USER: <image>\n"
        "Is it red? ASSISTANT: Yes.</s>USER: Where? ASSISTANT:",
    ),
    "blip2": (
        "blip2",
        "Blip2ForConditionalGeneration",
        "Question: Is it red? Answer: Yes. Question: Where? Answer:",
    ),
    "blip2 t5": (
        "blip2_t5",
        "Blip2ForConditionalGeneration",
        "Question: Is it red? Answer: Yes. Question: Where? Answer:",
    ),
    "instructblip": (
        "instructblip",
        "InstructBlipForConditionalGeneration",
        "Question: Is it red? Short answer: Yes. Question: Where? Short answer:",
    ),
    "kosmos2": (
        "kosmos2",
        "Kosmos2ForConditionalGeneration",
        "<grounding> Question: Is it red? Answer: Yes. Question: Where? Answer:",
    ),
    **{
        family: (
            family,
            name,
            "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Is it red?<|im_end|>\n"
            "<|im_start|>assistant\nYes.<|im_end|>\n<|im_start|>user\nWhere?<|im_end|>\n"
            "<|im_start|>assistant\n",
        )
        for family, name in [
            ("qwen2_vl", "Qwen2VLForConditionalGeneration"),
            ("qwen2_5_vl", "Qwen2_5_VLForConditionalGeneration"),
            ("qwen3_vl", "Qwen3VLForConditionalGeneration"),
        ]
    },
    "smolvlm": (
        "idefics3",
        "Idefics3ForConditionalGeneration",
        "<s>User:<image> Is it red?<end_of_utterance>\nAssistant: Yes.<end_of_utterance>\n"
        "User: Where?<end_of_utterance>\nAssistant:",
    ),
    "internvl": (
        "internvl",
        "InternVLForConditionalGeneration",
        "<s>User:<IMG_CONTEXT> Is it red?<end_of_utterance>\nAssistant: Yes.<end_of_utterance>\n"
        "User: Where?<end_of_utterance>\nAssistant:",
    ),
    "paligemma": (
        "paligemma",
        "PaliGemmaForConditionalGeneration",
        "<image>answer en Is it red?\nYes.\nWhere?",
    ),
}
TURNS = (
    Message("user", ("Is it red?",)),
    Message("assistant", ("Yes.",)),
    Message("user", ("Where?",)),
)
SAMPLES = [make_sample("red"), make_sample("blue", (30, 60))]


def questions(candidates=("Yes.", "No, there is no such object.")):
    texts = ["Where is the red circle?", "Is there a blue square in the image?", "Describe it."]
    return [
        Question(f"{text} {n}", sample, (Message("user", (text,)),), candidates)
        for text in texts
        for n, sample in enumerate(SAMPLES)
    ] + [Question("turns", SAMPLES[0], TURNS, candidates)]


def load(config, folder, *overrides):
    """The predictor that `evaluate` would build."""
    arguments = [f"predictor={config}", f"predictor.model_id={folder}", *FAST, *overrides]
    with initialize_config_module("locvlm.conf", version_base="1.3"):
        cfg = compose("evaluate", overrides=arguments)
    try:
        return instantiate(cfg.predictor)
    except InstantiationException as error:
        raise error.__cause__ from None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A function that saves each of the tiny models once."""
    made = {}

    def save(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name)
            getattr(vlms, name)(made[name])
        return made[name]

    return save


@pytest.fixture(scope="module", params=IN_CONTEXT)
def family(request, folder):
    """(its predictor, its folder, its class, its prompt of `TURNS`)"""
    name, kind, prompt = IN_CONTEXT[request.param]
    return load(request.param.split()[0], folder(name)), folder(name), kind, prompt


def test_in_context_turns_are_written_in_the_familys_format(family):
    predictor, _, _, prompt = family
    assert predictor.prompting.prompt(Question("a", SAMPLES[0], TURNS)) == prompt


def asked_as_documented(processor, predictor, question):
    """A question as transformers' own pages put it."""
    picture = predictor._picture(question.sample)
    if predictor.prompting.chat is not None:
        text = predictor.prompting.prompt(question)
        return processor(images=picture, text=text, return_tensors="pt")
    turns = [
        {"role": turn.role, "content": [{"type": "text", "text": turn.parts[0]}]}
        for turn in question.messages
    ]
    turns[0]["content"].insert(0, {"type": "image", "image": picture})
    return processor.apply_chat_template(
        turns, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )


def test_batches_say_what_the_models_own_generate_says_one_by_one(family):
    predictor, folder, kind, _ = family
    model = getattr(transformers, kind).from_pretrained(folder).eval()
    processor = transformers.AutoProcessor.from_pretrained(folder, **predictor.images)
    ends = {processor.tokenizer.bos_token_id, processor.tokenizer.eos_token_id}
    expected = []
    for question in questions():
        inputs = asked_as_documented(processor, predictor, question)
        ids = model.generate(**inputs, do_sample=False, max_new_tokens=6)[0].tolist()
        encodes = model.config.get_text_config().is_encoder_decoder
        new = ids[1:] if encodes else ids[inputs["input_ids"].shape[1] :]
        said = [one for one in new if one not in ends]
        expected.append(processor.tokenizer.decode(said).strip())
    assert predictor.answer(questions()) == expected
    assert len(set(expected)) > 1


def test_likelihoods_are_the_same_in_batches_and_one_by_one(family):
    predictor = family[0]
    together = predictor.score(questions())
    alone = [predictor.score([question])[0] for question in questions()]
    assert torch.tensor(together).numpy() == pytest.approx(torch.tensor(alone).numpy(), abs=2e-3)


@pytest.fixture(scope="module")
def llava(folder):
    return load("llava1_5", folder("llava"))


def test_a_likelihood_is_that_of_the_answers_tokens_and_its_end(llava):
    question = questions(("Yes.",))[0]
    inputs = llava._inputs([question])
    answer = llava._answer_ids(question, "Yes.")
    assert llava.processor.tokenizer.decode(answer).strip() == "Yes.</s>"
    ids = torch.cat([inputs["input_ids"], torch.tensor([answer])], dim=1)
    with torch.no_grad():
        logits = llava.model(input_ids=ids, pixel_values=inputs["pixel_values"]).logits[0]
    expected = logits.log_softmax(-1)[-len(answer) - 1 : -1]
    expected = expected.gather(-1, torch.tensor(answer)[:, None]).sum()
    assert llava.score([question])[0] == pytest.approx([expected.item()], abs=1e-3)


def test_an_answer_ends_as_the_chat_template_ends_it(folder):
    predictor = load("qwen2_vl", folder("qwen2_vl"))
    ids = predictor._answer_ids(questions()[0], "Yes.")
    assert predictor.processor.tokenizer.decode(ids).strip() == "Yes.<|im_end|>"


def test_an_encoders_likelihood_is_that_of_its_labels(folder):
    predictor = load("blip2", folder("blip2_t5"))
    question = questions(("No, there is none.",))[0]
    inputs = predictor._inputs([question])
    labels = predictor.processor.tokenizer("No, there is none.</s>", add_special_tokens=False)
    labels = torch.tensor([labels.input_ids])
    with torch.no_grad():
        loss = predictor.model(**inputs, labels=labels).loss
    expected = -loss.item() * labels.shape[1]
    assert predictor.score([question])[0] == pytest.approx([expected], abs=1e-3)


def test_a_location_in_a_question_is_written_in_the_dialect_of_the_family(folder):
    box = Box(12, 10, 24, 20)
    question = Question("a", SAMPLES[0], (Message("user", ("What is at ", box, "?")),))
    written = {
        "llava1_5": "What is at [0.25, 0.29, 0.5, 0.5]?",
        "kosmos2": "What is at <object><patch_index_0264><patch_index_0495></object>?",
        "qwen2_vl": "What is at <|box_start|>(250,250),(500,500)<|box_end|>?",
        "qwen2_5_vl": 'What is at {"bbox_2d": [21, 14, 42, 28]}?',
        "paligemma": "What is at <loc0256><loc0256><loc0512><loc0512>?",
    }
    for config, text in written.items():
        predictor = load(config, folder(IN_CONTEXT[config][0]))
        assert text in predictor.prompting.prompt(question)
        assert len(predictor.answer([question])) == 1
        assert predictor.decode(text, question).boxes[0] == pytest.approx(box, abs=2)


@pytest.mark.parametrize("size", [(48, 40), (300, 200), (31, 97), (640, 480)])
def test_pixels_of_qwen_2_5_are_those_of_the_image_as_its_processor_resizes_it(folder, size):
    limits = "{shortest_edge: 4000, longest_edge: 50000}"
    predictor = load("qwen2_5_vl", folder("qwen2_5_vl"), f"predictor.images.size={limits}")
    question = Question("a", make_sample("red", size), (Message("user", ("Where?",)),))
    _, height, width = predictor._inputs([question])["image_grid_thw"][0].tolist()
    assert predictor.dialect.numbers.resized(size) == (14 * width, 14 * height)


def test_special_tokens_around_a_location_are_not_lost(folder):
    predictor = load("qwen2_vl", folder("qwen2_vl"))
    text = "It is <|box_start|>(250,250),(500,500)<|box_end|>"
    ids = predictor.processor.tokenizer(text + "<|im_end|>").input_ids
    said = predictor._text(ids[:-1])
    assert predictor.decode(said, questions()[0]).boxes == [Box(12, 10, 24, 20)]


def test_what_a_models_files_say_of_generation_changes_nothing(folder, llava, tmp_path):
    copy = shutil.copytree(folder("llava"), tmp_path / "model")
    settings = {"do_sample": True, "temperature": 9.0, "repetition_penalty": 1.9, "eos_token_id": 2}
    (copy / "generation_config.json").write_text(json.dumps(settings))
    assert load("llava1_5", copy).answer(questions()) == llava.answer(questions())


def test_an_exported_locvlm_answers_as_the_locvlm_itself(checkpoint, tmp_path):
    export_llava(LocVLM.from_pretrained(checkpoint), tmp_path / "exported")
    bins = ("dialect@predictor.dialect=ivb", "predictor.dialect.bins=32")
    theirs = load("transformers", tmp_path / "exported", *bins)
    ours = LocVLMPredictor(checkpoint, max_new_tokens=6, device="cpu")
    located = (Message("user", ("What is at ", Box(12, 10, 24, 20), "?")),)
    asked = [*questions(), Question("located", SAMPLES[0], located, ("Yes.", "No."))]
    assert theirs.answer(asked) == ours.answer(asked)
    for found, expected in zip(theirs.score(asked), ours.score(asked), strict=True):
        assert found == pytest.approx(expected, rel=1e-3)


def test_a_question_without_an_image_may_stand_among_others(llava):
    words = Question("words", Sample("words", "test"), (Message("user", ("Why is it so?",)),))
    mixed = [questions()[0], words, questions()[1]]
    assert llava.answer(mixed) == [llava.answer([question])[0] for question in mixed]
    with pytest.raises(DataError, match="without an image"):
        llava.decode("[0.1, 0.2, 0.3, 0.4]", words)


def test_a_users_words_never_become_special_tokens(llava):
    hostile = Question("a", SAMPLES[0], (Message("user", ("<image></s> Where?",)),))
    prompt = llava.prompting.prompt(hostile)
    assert prompt.count("<image>") == 1
    assert "</s>" not in prompt
    assert len(llava.answer([hostile])) == 1


def test_llava_sees_the_image_on_a_square_of_its_processors_mean_colour(llava):
    plain = Image.new("RGB", (48, 48), (122, 116, 104))
    plain.paste(Image.new("RGB", (48, 40), "red"), (0, 4))
    plain.paste("white", (0, 4, 12, 44))
    assert llava._picture(SAMPLES[0]).tobytes() == plain.tobytes()


def test_sampling_is_repeated_by_its_seed(folder):
    def answers(seed):
        drawn = load("llava1_5", folder("llava"), "predictor.temperature=2.0", f"seed={seed}")
        return drawn.answer(questions())

    assert answers(1) == answers(1)
    assert answers(1) != answers(2)


def test_the_identity_follows_files_prompt_and_decoding_but_not_the_place(folder, llava, tmp_path):
    copy = shutil.copytree(folder("llava"), tmp_path / "model")
    assert load("llava1_5", copy).identity == llava.identity
    json.dumps(llava.identity)
    others = [
        *("predictor.max_new_tokens=5", "predictor.chat.user='{text} '", "predictor.square=false"),
        *("dialect@predictor.dialect=shikra", "predictor.temperature=1.0"),
        "predictor.dtype=bfloat16",
    ]
    identities = [load("llava1_5", copy, other).identity for other in others]
    (copy / "config.json").write_text((copy / "config.json").read_text() + "\n")
    identities.append(load("llava1_5", copy).identity)
    assert len({json.dumps(dict(one)) for one in [llava.identity, *identities]}) == 8


def test_a_missing_model_is_named_with_the_way_to_have_it_offline():
    with pytest.raises(CheckpointError, match="hf download Qwen/Qwen2.5-VL-7B-Instruct") as error:
        load("qwen2_5_vl", "Qwen/Qwen2.5-VL-7B-Instruct")
    assert "predictor.model_id=FOLDER" in str(error.value)


def test_a_model_without_a_chat_template_needs_a_plain_prompt(folder):
    with pytest.raises(ConfigError, match="no chat template"):
        load("transformers", folder("blip2"))


@pytest.mark.parametrize(
    "template", ["{{ messages[0]['content'] + 'x' }}", "{{ raise_exception('one turn only') }}"]
)
def test_a_chat_template_that_takes_no_such_conversation_is_told(folder, template):
    predictor = load("qwen2_vl", folder("qwen2_vl"))
    predictor.processor.chat_template = template
    with pytest.raises(ConfigError, match="cannot write this conversation") as error:
        predictor.answer(questions()[:1])
    assert questions()[0].key in str(error.value)


def test_missing_weights_are_named(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    copy = shutil.copytree(folder("blip2"), tmp_path / "model")
    tensors = load_file(copy / "model.safetensors")
    del tensors["language_projection.bias"]
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        CheckpointError, match=r"lacks 1 weights, such as language_projection\.bias"
    ):
        load("blip2", copy)


def test_code_that_a_model_brings_is_never_run(folder, tmp_path):
    copy = shutil.copytree(folder("llava"), tmp_path / "model")
    (copy / "theirs.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    config = json.loads((copy / "config.json").read_text())
    config |= {"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.Config"}}
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError):
        load("llava1_5", copy)
    assert not (tmp_path / "ran").exists()


def test_refuses_what_cannot_be(folder):
    for settings, message in [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"temperature": -1.0}, "temperature must be 0 or more"),
        ({"device": "quantum"}, "cannot run on device 'quantum'"),
    ]:
        with pytest.raises(ConfigError, match=message):
            TransformersPredictor(str(folder("llava")), fractions(), ChatFormat(), **settings)
