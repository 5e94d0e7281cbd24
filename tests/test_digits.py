import pytest
from tokenizers import Regex, Tokenizer, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from locvlm.coordinates import DIGA, IVB, NFP
from locvlm.digits import digits_of, pieces_of
from locvlm.tokenizers import build_tokenizer
from tests.llava import llama_tokenizer

TEXTS = ["It is located at [0, 1, 2, 3] bbox.", "It is located at [0, 1] point."] * 9


def byte_level(*splits, texts=TEXTS):
    """A byte-level BPE of these texts whose merges stay within what the splits leave together."""
    tokenizer = Tokenizer(BPE())
    byte = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, byte])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = BpeTrainer(vocab_size=2000, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


WORDS = pre_tokenizers.Split(Regex(r" ?\p{L}+| ?[^\p{L}\p{N}]|\p{N}+"), "isolated")
TOKENIZERS = {
    "digits apart": lambda: byte_level(WORDS, pre_tokenizers.Digits(individual_digits=True)),
    "Llama's way": llama_tokenizer,
    "integers whole": lambda: build_tokenizer(TEXTS, max_number=224),
}


def split(name, scheme):
    return digits_of(TOKENIZERS[name](), scheme, n_samples=50)


def test_the_papers_box_in_digits_that_stand_apart():
    found = split("digits apart", IVB(224))
    assert found.example == (
        " [",
        "4",
        ",",
        " ",
        "5",
        "2",
        ",",
        " ",
        "1",
        "3",
        ",",
        " ",
        "6",
        "3",
        "]",
        " bbox",
    )
    assert found.treatment == "one by one"
    assert found.merged == ()


def test_the_papers_box_in_llamas_way():
    found = split("Llama's way", IVB(224))
    assert "".join(found.example) == "[4, 52, 13, 63] bbox"
    assert {"4", "5", "2", "1", "3", "6"} < {piece.strip() for piece in found.example}
    assert (found.treatment, found.merged) == ("one by one", ())


def test_the_papers_box_in_whole_integers():
    found = split("integers whole", IVB(224))
    assert found.example == (" [", "4", ",", " 52", ",", " 13", ",", " 63", "]", " bbox")
    assert found.box_tokens == (10, 10)
    assert found.point_tokens == (6, 6)
    assert (found.treatment, found.merged) == ("together", ())


@pytest.mark.parametrize(
    ("scheme", "example"),
    [
        (NFP(), "[0.0195, 0.2344, 0.0586, 0.2832] bbox"),
        (DIGA(224), "[0, 4, 3, 11, 6, 0] bbox"),
    ],
)
@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_example_is_that_of_the_scheme(name, scheme, example):
    found = split(name, scheme)
    assert "".join(found.example).lstrip() == example
    assert found.box_tokens[0] <= found.box_tokens[1]


def test_floats_cost_more_where_digits_stand_apart():
    mean, most = split("digits apart", NFP()).box_tokens
    assert mean == most == 4 * 6 + 3 * 2 + 3  # six characters each, commas with spaces, the rest


def test_digits_in_threes_are_groups_of_longer_numbers():
    found = split("integers whole", NFP())
    assert found.treatment == "in groups"
    assert found.merged == ()


def test_numbers_that_share_a_token_with_punctuation_are_shown():
    at_spaces = pre_tokenizers.Split(Regex(r" ?[^ ]+"), "isolated")
    texts = ["It is located at [4, 52, 13, 63] bbox."] * 9
    tokenizer = byte_level(at_spaces, texts=texts)
    found = digits_of(tokenizer, IVB(224), n_samples=50)
    assert " 52," in found.example
    assert {" 13,", " 63]"} <= {*found.merged, *found.example}
    assert all(set(piece) & set("[],") for piece in found.merged)


def test_two_numbers_in_one_token_are_shown():
    tokenizer = byte_level(texts=["[0, 0"] * 9)
    assert any(piece.count("0") > 1 for piece in digits_of(tokenizer, IVB(1)).merged)


def test_a_sign_and_a_point_belong_to_their_number():
    tokenizer = byte_level(WORDS, texts=["0.0195 -12"] * 9)
    assert digits_of(tokenizer, NFP(), n_samples=50).merged == ()
    assert digits_of(tokenizer, DIGA(224), n_samples=50).merged == ()


def test_pieces_know_their_places():
    pieces = pieces_of(TOKENIZERS["integers whole"](), "[4, 52] point")
    assert [(piece.text, piece.start, piece.end) for piece in pieces[:4]] == [
        (" [", -1, 1),
        ("4", 1, 2),
        (",", 2, 3),
        (" 52", 3, 6),
    ]


def test_without_suffix_the_word_is_not_counted():
    tokenizer = TOKENIZERS["integers whole"]()
    assert digits_of(tokenizer, IVB(224), suffix=False, n_samples=9).box_tokens == (9, 9)
