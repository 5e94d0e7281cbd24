import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from locvlm.errors import CheckpointError
from locvlm.tokenizers import build_tokenizer, first_tokens, number_tokens, pretrained

TOKENIZER = build_tokenizer(["Where is the red circle?", "USER: ASSISTANT: It is here."], 224)


def tokens(text):
    return TOKENIZER.convert_ids_to_tokens(TOKENIZER(text)["input_ids"])


def test_each_known_word_and_each_integer_is_one_token():
    assert tokens("Where is [4, 224]?")[1:] == ["Where", "Ġis", "Ġ[", "4", ",", "Ġ224", "]", "?"]


def test_every_integer_is_one_token_with_and_without_a_space():
    for number in range(225):
        assert len(tokens(str(number))) == len(tokens(f" {number}")) == 2


def test_starts_with_the_start_token_and_knows_its_specials():
    assert tokens("a<image>b</s>")[0] == "<s>"
    assert "<image>" in tokens("a<image>b</s>")
    assert tokens("a</s>")[-1] == "</s>"


@settings(max_examples=200)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_text_survives(text):
    ids = TOKENIZER(text, split_special_tokens=True)["input_ids"][1:]
    assert TOKENIZER.decode(ids, skip_special_tokens=False) == text


def test_is_the_same_for_the_same_texts_in_any_order():
    one = build_tokenizer(["b a", "c"], 3).get_vocab()
    assert one == build_tokenizer(["c", "b a"], 3).get_vocab()


def test_a_phrase_is_one_token_with_its_characters_kept():
    phrase = " (x1,y1,x2,y2) bbox"
    tokenizer = build_tokenizer(["a box"], 9, phrases=[phrase])
    encoded = tokenizer(f"a{phrase}?", return_offsets_mapping=True)
    assert tokenizer.convert_ids_to_tokens(encoded["input_ids"])[1:] == ["a", phrase, "?"]
    assert encoded["offset_mapping"][2] == (1, 1 + len(phrase))
    assert tokenizer.decode(encoded["input_ids"][1:]) == f"a{phrase}?"


@given(st.text("ab circle7[,]<>é\n", min_size=1, max_size=30), st.integers(1, 40))
def test_the_first_tokens_are_those_of_the_whole_text(text, n_tokens):
    long = text * 200
    found, whole = first_tokens(TOKENIZER, long, n_tokens), TOKENIZER(long)["input_ids"]
    assert found.ids[:n_tokens] == whole[:n_tokens]
    assert len(found.offsets) == len(found.ids) >= min(n_tokens, len(whole))


def test_the_rest_of_a_long_text_is_left_alone():
    assert len(first_tokens(TOKENIZER, "where " * 10**6, 100)) < 2000
    assert len(first_tokens(TOKENIZER, "where", 100)) == len(tokens("where"))


def test_the_tokens_of_integers_are_found_with_and_without_a_space():
    tokenizer = build_tokenizer(["007 1x ² 3"], 12)
    found = number_tokens(tokenizer, 11)
    assert list(found) == list(range(12))
    for number, ids in found.items():
        assert {tokenizer.decode([token]) for token in ids} == {str(number), f" {number}"}


def test_a_saved_tokenizer_is_read_from_its_folder(tmp_path):
    TOKENIZER.save_pretrained(tmp_path)
    assert pretrained(str(tmp_path)).get_vocab() == TOKENIZER.get_vocab()


@pytest.mark.parametrize("path", ["lmsys/no-such-model", "nowhere/at/all"])
def test_a_tokenizer_that_cannot_be_had_names_the_offline_way(path):
    with pytest.raises(CheckpointError, match=f"(?s)where: {path}.*hf download {path}"):
        pretrained(path, local_files_only=True)
