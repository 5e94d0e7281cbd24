"""A tokenizer for small models, built from the words of their world; bytes serve the rest.

Real models bring their own tokenizer; this one lets a tiny model train without a download.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from tokenizers import AddedToken, Encoding, Regex, Tokenizer, decoders, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from locvlm.chat import IMAGE
from locvlm.errors import CheckpointError

# As in LLaMA 3, digits stay together in threes; the space before a number belongs to its token.
_WORDS = r" ?\p{N}{1,3}| ?\p{L}+| ?[^\s\p{L}\p{N}]|\s"


def build_tokenizer(
    texts: Iterable[str], max_number: int = 224, phrases: Sequence[str] = ()
) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer that knows every word of `texts` as one token.

    Any other text is written in pieces of words or in bytes, so nothing is ever unknown. Integers
    are one token each: with digits as tokens, a tiny model learns to find *some* object, but not
    the named one.

    Args:
        texts: the closed world's sentences.
        max_number: integers 0 to this one are one token each; the bins of a coordinate scheme.
        phrases: texts that are one token each, such as "(x1,y1,x2,y2) bbox" of the prompts.
    """
    tokenizer = Tokenizer(BPE())
    split = pre_tokenizers.Split(Regex(_WORDS), "isolated")
    as_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, as_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<s>", "</s>", "<pad>", IMAGE]
    trainer = BpeTrainer(
        vocab_size=1_000_000,
        min_frequency=1,
        special_tokens=specials,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    marks = [f"{mark} {mark}" for mark in "[](),.:?!"]
    numbers = [f"{number} {number}" for number in range(max_number + 1)]
    # A word seen once becomes a whole token, at the start of a text and after a space.
    words = {word.strip() for text in texts for word, _ in split.pre_tokenize_str(text)}
    corpus = [*(f"{word} {word}" for word in sorted(words)), *marks, *numbers]
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.add_tokens([AddedToken(phrase, normalized=False) for phrase in phrases])
    start = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", start)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        clean_up_tokenization_spaces=False,
    )


def pretrained(path: str, *, local_files_only: bool = False) -> PreTrainedTokenizerFast:
    """A tokenizer from a local folder, or from the hub or its cache.

    Args:
        path: folder or hub id; code that a hub repository brings is never run.
        local_files_only: look in the cache only.

    Raises:
        CheckpointError: there is none that can be had.
    """
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(
            path, local_files_only=local_files_only, trust_remote_code=False
        )
    except (ImportError, OSError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"no tokenizer that can be read here: {str(error).splitlines()[0]}",
            where=path,
            fix=f"download it once on a machine with a network (hf download {path} "
            "--local-dir FOLDER) and give FOLDER in its place",
        ) from error
    return tokenizer  # type: ignore[no-any-return]


def first_tokens(tokenizer: PreTrainedTokenizerFast, text: str, n_tokens: int) -> Encoding:
    """At least the first `n_tokens` of a text, all of a short one; with character offsets.

    The rest of a long text takes no time: ten million characters would take 40 seconds and 3 GB.
    """
    # Without transformers' layer around it, encoding takes half the time. That layer may have
    # left the settings of somebody's call.
    tokens = tokenizer.backend_tokenizer
    tokens.no_truncation()
    tokens.no_padding()
    n_characters = 16 * n_tokens
    while True:
        encoded: Encoding = tokens.encode(text[:n_characters])
        # Twice as many, because those near the cut are others than in the whole text.
        if n_characters >= len(text) or len(encoded.ids) > 2 * n_tokens:
            return encoded
        n_characters *= 2


def number_tokens(tokenizer: PreTrainedTokenizerFast, last: int) -> dict[int, list[int]]:
    """The ids of the tokens that are the integers 0 to `last`, with and without a space before.

    Integers that are written in several tokens are left out.
    """
    found: dict[int, list[int]] = {}
    for token, number in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1]):
        digits = token.lstrip("\u0120\u2581")  # a space, as byte-level and sentencepiece write it
        if digits.isascii() and digits.isdecimal() and str(int(digits)) == digits:
            found.setdefault(int(digits), []).append(number)
    return {number: ids for number, ids in sorted(found.items()) if number <= last}
