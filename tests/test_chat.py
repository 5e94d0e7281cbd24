from pathlib import Path

import pytest
import yaml

from locvlm.chat import ChatFormat, Piece, Span, Turn, token_weights
from locvlm.errors import ConfigError
from tests.qwen import qwen_tokenizer

CONF = Path(__file__).parents[1] / "conf"

PLAIN = ChatFormat(user="", assistant="", answer="{text}", end="\n", image="<image>")


def user(text):
    return Turn("user", (Piece(text),))


def assistant(*pieces):
    return Turn("assistant", tuple(Piece(*p) if isinstance(p, tuple) else Piece(p) for p in pieces))


def learned(rendered):
    return "".join(rendered.text[span.start : span.end] for span in rendered.learned)


def test_writes_vicuna_as_llava_does():
    chat = ChatFormat(system="A chat. ")
    rendered = chat.render([user("hi"), assistant("hello"), user("bye"), assistant("ciao")], 1)
    assert rendered.text == (
        "A chat. USER: <image>\nhi ASSISTANT: hello</s>USER: bye ASSISTANT: ciao</s>"
    )
    assert learned(rendered) == " hello</s> ciao</s>"


def test_plain_discards_the_prompt_and_learns_caption_and_newline():
    rendered = PLAIN.render([user("Describe it."), assistant("a dog")], 1)
    assert rendered.text == "<image>a dog\n"
    assert learned(rendered) == "a dog\n"


@pytest.fixture(scope="module")
def chatml():
    fields = yaml.safe_load((CONF / "chat" / "chatml.yaml").read_text())
    return ChatFormat(**{key: value for key, value in fields.items() if key != "_target_"})


@pytest.mark.parametrize("n_turns", [1, 2, 3, 4])
def test_chatml_is_what_the_models_own_template_writes(chatml, n_turns):
    said = [
        ("user", "Where?"),
        ("assistant", "At [1, 2]."),
        ("user", " Why? "),
        ("assistant", "\n"),
    ]
    messages = [{"role": role, "content": text} for role, text in said[:n_turns]]
    is_asked = n_turns % 2 == 1
    theirs = qwen_tokenizer().apply_chat_template(
        messages, tokenize=False, add_generation_prompt=is_asked
    )
    rendered = chatml.render([Turn(role, (Piece(text),)) for role, text in said[:n_turns]])
    assert rendered.text + ("" if is_asked else "\n") == theirs
    answers = "".join(text + "<|im_end|>" for role, text in said[:n_turns] if role == "assistant")
    assert learned(rendered) == answers


def test_the_tokens_that_chatml_learns_are_those_that_the_template_marks(chatml):
    tokenizer = qwen_tokenizer()
    said = [
        ("user", "Where?"),
        ("assistant", "It is at [52, 7]."),
        ("user", "Yes?"),
        ("assistant", ""),
    ]
    theirs = tokenizer.apply_chat_template(
        [{"role": role, "content": text} for role, text in said],
        return_dict=True,
        return_assistant_tokens_mask=True,
    )
    rendered = chatml.render([Turn(role, (Piece(text),)) for role, text in said])
    ours = tokenizer(rendered.text, return_offsets_mapping=True)
    weights = token_weights(ours["offset_mapping"], rendered.learned)
    assert ours["input_ids"] == theirs["input_ids"][:-1]  # all but the last newline
    assert weights == theirs["assistant_masks"][:-1]
    assert sum(weights) == 13


def test_a_question_opens_the_assistants_turn():
    assert ChatFormat().render([user("hi")]).text == "USER: hi ASSISTANT:"


def test_a_prompt_is_how_the_finished_conversation_begins():
    chat = ChatFormat()
    turns = [user("a"), assistant("b"), user("c")]
    finished = chat.render([*turns, assistant("d")], 1).text
    assert finished.startswith(chat.render(turns, 1).text)


def test_each_piece_keeps_its_weight():
    rendered = ChatFormat().render([user("q"), assistant("at [", ("12", 8.0), "]")])
    weights = {rendered.text[s.start : s.end]: s.weight for s in rendered.learned}
    assert weights == {" ": 1, "at [": 1, "12": 8, "]": 1, "</s>": 1}


def test_a_token_takes_the_largest_weight_that_it_touches():
    spans = [Span(4, 6, 1.0), Span(6, 8, 5.0), Span(8, 9, 1.0)]
    offsets = [(0, 0), (0, 4), (4, 5), (5, 8), (8, 9), (9, 12)]
    assert token_weights(offsets, spans) == [0, 0, 1, 5, 1, 0]


def test_tokens_between_two_answers_are_not_learned():
    spans = [Span(0, 2, 1.0), Span(6, 8, 1.0)]
    assert token_weights([(0, 2), (2, 6), (6, 8)], spans) == [1, 0, 1]


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"answer": "yes"}, "holds no {text}"), ({"image": "<image><image>"}, "no single <image>")],
)
def test_refuses_formats_that_cannot_work(fields, message):
    with pytest.raises(ConfigError, match=message):
        ChatFormat(**fields)
