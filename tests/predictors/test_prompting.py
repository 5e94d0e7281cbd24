from types import SimpleNamespace

import pytest

from locvlm.chat import ChatFormat
from locvlm.dialects import fractions
from locvlm.errors import ConfigError
from locvlm.predictors.prompting import Prompting
from locvlm.types import Message, Question, Sample

PHOTO = Sample("photo", "test", image=b"", size=(10, 10))
PLAIN = ChatFormat(user="Question: {text} ", assistant="Answer:", end=" ")


def processor(**options):
    tokenizer = SimpleNamespace(all_special_tokens=["</s>"], chat_template=None)
    return SimpleNamespace(tokenizer=tokenizer, **options)


def question(text="Where?", sample=PHOTO):
    return Question("a", sample, (Message("user", (text,)),))


def test_the_text_says_where_the_image_stands_unless_the_processor_does():
    said = Prompting(processor(), fractions(), PLAIN)
    left = Prompting(processor(), fractions(), PLAIN, image_in_text=False)
    words = question(sample=Sample("words", "test"))
    assert said.prompt(question()) == "Question: <image>\nWhere? Answer:"
    assert left.prompt(question()) == "Question: Where? Answer:"
    assert said.prompt(words) == "Question: Where? Answer:"


@pytest.mark.parametrize(
    ("chat", "answer"),
    [
        (PLAIN, " Yes."),
        (ChatFormat(), " Yes.</s>"),
        (ChatFormat(user="{text}", assistant="", answer="\n{text}", end="\n"), "Yes."),
    ],
)
def test_an_answer_is_what_follows_the_prompt(chat, answer):
    assert Prompting(processor(), fractions(), chat).answer(question(), "Yes.") == answer


def test_a_users_words_are_no_image_by_any_name():
    prompting = Prompting(processor(image_token="<IMG_CONTEXT>"), fractions(), PLAIN)
    asked = question("<image> <IMG_CONTEXT> </s>?")
    assert prompting.prompt(asked) == "Question: <image>\n< image> < IMG_CONTEXT> < /s>? Answer:"


def test_a_model_without_any_prompt_format_is_refused():
    with pytest.raises(ConfigError, match="no chat template"):
        Prompting(processor(), fractions(), None)
