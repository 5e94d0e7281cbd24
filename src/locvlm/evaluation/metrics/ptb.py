"""The words of captions, as the programs of METEOR and CIDEr count them."""

import re
from collections.abc import Sequence
from unicodedata import category

from locvlm.errors import LocVLMError
from locvlm.evaluation.metrics.java import check_programs, run

# No caption is longer. The programs take time and memory that grow with the square of the length.
LONGEST = 5_000
_JAR = "tokenizer/stanford-corenlp-3.4.1.jar"
_SIGNS = {
    *("''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-"),
    *(".", "?", "!", ",", ":", "-", "--", "...", ";"),
}
_WORD = re.compile(r"\w+(?:'\w+)?")


def ptb_words(texts: Sequence[str]) -> list[str]:
    """Each text as the Penn Treebank splits it: lower case, no punctuation, single spaces.

    Any string is safe: what would end a line for the program is a space to it, and what is longer
    than `LONGEST` characters is cut. A text's last "D." is one word or two by the text that follows
    it, so give candidates and references apart, in the order of the file, as the program gets them.

    Raises:
        ConfigError: Java or the package pycocoevalcap is missing.

    Source: pycocoevalcap, tokenizer/ptbtokenizer.py (Stanford's PTBTokenizer of CoreNLP 3.4.1).
    """
    if not texts:
        return []
    jar = str(check_programs() / _JAR)
    options = ["-cp", jar, "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    lines = run(options, "\n".join(map(one_line, texts))).split("\n")
    if len(lines) != len(texts):
        raise LocVLMError(f"the tokenizer made {len(lines):,} lines of {len(texts):,} texts")
    return [" ".join(word for word in line.split() if word not in _SIGNS) for line in lines]


def plain_words(texts: Sequence[str]) -> list[str]:
    """Each text as its runs of letters and digits, in lower case, without Java.

    >>> plain_words(["A dog, isn't it?"])
    ["a dog isn't it"]
    """
    return [" ".join(_WORD.findall(one_line(text).lower())) for text in texts]


def one_line(text: str) -> str:
    """A text without line ends, control characters or halves of characters, and not endless."""
    kept = (" " if category(sign) in ("Cc", "Cs", "Zl", "Zp") else sign for sign in text[:LONGEST])
    return " ".join("".join(kept).split())
