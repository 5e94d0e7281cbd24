from dataclasses import replace

import pytest

from locvlm.data import Draw, Examples, Source
from locvlm.data.audit import Bad, Learned, Supervision, supervision, token_rows
from locvlm.types import Box, Message
from tests.data.conftest import annotated, talked
from tests.tiny import make_processor


@pytest.fixture
def example(processor):
    sample = annotated(0)
    box = sample.instances[0].box
    turns = [Message("user", ("Where?",)), Message("assistant", ("At ", box, "."))]
    return processor.encode(sample, turns)


def test_says_what_each_token_stands_for(example, processor):
    rows = token_rows(example, processor)
    meanings = [row.meaning for row in rows]
    assert meanings.count("image") == 1
    assert meanings[-1] == "end"
    assert "number" in meanings
    assert all(row.label is None for row in rows if row.meaning in ("image", "prompt"))
    assert all(row.label == row.id for row in rows if row.meaning in ("answer", "number", "end"))


def test_rows_cover_the_whole_sequence(example, processor):
    rows = token_rows(example, processor)
    assert len(rows) - 1 + processor.image_tokens == len(example["input_ids"])


def learned(kind="talk", source=0, **numbers):
    """A sample of 100 tokens, half of them learned."""
    given = {"length": 100, "n_tokens": 100, "n_learned": 50, "n_turns": 2, "n_located": 1}
    return Learned(source, kind, **(given | numbers))


def test_shares_count_all_tokens_and_all_turns():
    found = Supervision((learned(), learned(n_tokens=300, n_learned=0, n_turns=6)))
    assert found.share == 50 / 400
    assert found.located == 2 / 8
    assert found.n_silent == 1
    assert Supervision(()).share == Supervision(()).located == 0


def test_kinds_are_counted_apart_the_most_frequent_first():
    found = Supervision((learned("a"), learned("b", length=130), learned("b")), (Bad(0, 4, "?"),))
    kinds = found.kinds()
    assert list(kinds) == ["b", "a"]
    assert kinds["b"].lengths == {130: 1, 100: 1}
    assert kinds["b"].n_cut == found.n_cut == 1
    assert found.n_samples == 4


def test_samples_are_counted_as_they_are_encoded(shards, processor, objective):
    talk = replace(
        talked(1),
        messages=(
            Message("user", ("Where?",)),
            Message("assistant", ("At ", Box(8, 8, 24, 24), ".")),
            *talked(1).messages,
        ),
    )
    sources = [Source(str(shards([talk, replace(talk, key="bad", image=b"none")])))]
    examples = Examples(sources, processor)
    found = supervision(examples, [Draw(0, 0, 0), Draw(0, 1, 0)])
    [one] = found.samples
    labels = processor.encode(talk, talk.messages)["labels"]
    assert one.kind == "conversation"
    assert one.length == one.n_tokens == len(labels)
    assert one.n_learned == int((labels >= 0).sum())
    assert (one.n_turns, one.n_located) == (2, 1)
    [bad] = found.bad
    assert bad[:2] == (0, 1)
    assert "not an image" in bad.why


def test_the_length_of_a_sample_that_is_cut_is_its_whole_length(shards):
    whole = make_processor()
    sample = talked(1)
    n_tokens = len(whole.encode(sample, sample.messages)["labels"])
    examples = Examples([Source(str(shards([sample])))], make_processor(max_length=n_tokens - 2))
    found = supervision(examples, [Draw(0, 0, 0)])
    assert found.n_cut == 1
    assert (found.samples[0].length, found.samples[0].n_tokens) == (n_tokens, n_tokens - 2)
    examples = Examples([Source(str(shards([sample], "b")))], make_processor(max_length=n_tokens))
    assert supervision(examples, [Draw(0, 0, 0)]).n_cut == 0
