"""The text around a convention's numbers: brackets and tags.

Every pattern here stops at the next bracket or tag, so that hostile text takes time in proportion.
"""

import html
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

_TUPLE = re.compile(r"\(([^()]*)\)")
_LIST = re.compile(r"\[([^\[\]]*)\]")


class Match(NamedTuple):
    """What may be a name or locations: its place in the text, and its words."""

    start: int
    end: int
    phrase: str | None
    rows: tuple[tuple[str, ...], ...]


class Syntax(Protocol):
    """How names and numbers stand in a text."""

    def find(self, text: str) -> Iterator[Match]:
        """What may be names and locations, in order; whether the numbers fit is not known here."""

    def write(self, phrase: str | None, rows: Sequence[Sequence[str]]) -> str:
        """A name, if there is one, and the locations that follow it, if there are any."""


@dataclass(frozen=True, slots=True)
class Brackets:
    """Numbers in brackets: `[0.1, 0.2, 0.3, 0.4]`, `[[098,370,462,546;676,310,954,429]]`.

    Args:
        depth: pairs of brackets around.
        comma: what stands between numbers; free spacing is read all the same.
        joint: what stands between locations that share their brackets; None: they do not.
    """

    depth: int = 1
    comma: str = ", "
    joint: str | None = None

    def find(self, text: str) -> Iterator[Match]:
        for found in _LIST.finditer(text):
            start, end = found.start() - self.depth + 1, found.end() + self.depth - 1
            if self.depth > 1 and not self._enclosed(text, start, end):
                continue
            rows = found[1].split(self.joint) if self.joint else [found[1]]
            yield Match(start, end, None, tuple(map(_words, rows)))

    def write(self, phrase: str | None, rows: Sequence[Sequence[str]]) -> str:
        texts = [self.comma.join(row) for row in rows]
        if self.joint and texts:
            texts = [self.joint.join(texts)]
        around = "[" * self.depth, "]" * self.depth
        return named(phrase, "".join(f"{around[0]}{text}{around[1]}" for text in texts))

    def _enclosed(self, text: str, start: int, end: int) -> bool:
        n = self.depth - 1
        return start >= 0 and text[start : start + n] == "[" * n and text[end - n : end] == "]" * n


@dataclass(frozen=True, slots=True)
class Tags:
    """Names and boxes between tags: `<ref>the cat</ref><box>(176,106),(232,160)</box>`.

    Args:
        phrase: opening and closing tag of a name.
        box: those of a box or point.
    """

    phrase: tuple[str, str]
    box: tuple[str, str]

    def find(self, text: str) -> Iterator[Match]:
        for found in _between(self.phrase, self.box).finditer(text):
            if found[1] is not None:
                yield Match(found.start(), found.end(), found[1], ())
            elif (pairs := _listed(found[2], _TUPLE)) and all(len(pair) == 2 for pair in pairs):
                if len(pairs) == 1:
                    yield Match(found.start(), found.end(), None, pairs)
                elif len(pairs) % 2 == 0:  # several boxes may stand between the tags
                    rows = tuple(
                        first + last for first, last in zip(pairs[::2], pairs[1::2], strict=True)
                    )
                    yield Match(found.start(), found.end(), None, rows)

    def write(self, phrase: str | None, rows: Sequence[Sequence[str]]) -> str:
        texts = [] if phrase is None else [phrase.join(self.phrase)]
        for row in rows:
            pairs = zip(row[::2], row[1::2], strict=True)
            texts.append(",".join(f"({x},{y})" for x, y in pairs).join(self.box))
        return "".join(texts)


@dataclass(frozen=True, slots=True)
class TaggedLists:
    """Names between tags, and lists of boxes: `<|det|>[[176, 106, 232, 160]]<|/det|>`.

    Args:
        phrase: opening and closing tag of a name.
        box: those of a list.
    """

    phrase: tuple[str, str]
    box: tuple[str, str]

    def find(self, text: str) -> Iterator[Match]:
        for found in _between(self.phrase, self.box).finditer(text):
            if found[1] is not None:
                yield Match(found.start(), found.end(), found[1], ())
            else:
                inner = found[2].strip()
                if inner[:1] == "[" and inner[-1:] == "]" and (rows := _listed(inner[1:-1], _LIST)):
                    yield Match(found.start(), found.end(), None, rows)

    def write(self, phrase: str | None, rows: Sequence[Sequence[str]]) -> str:
        name = "" if phrase is None else phrase.join(self.phrase)
        lists = ", ".join(f"[{', '.join(row)}]" for row in rows)
        return name + (f"[{lists}]".join(self.box) if rows else "")


@dataclass(frozen=True, slots=True)
class PatchTokens:
    """`<phrase>the cat</phrase><object><patch_index_0044><patch_index_0863></object>`."""

    def find(self, text: str) -> Iterator[Match]:
        for found in _PATCHES.finditer(text):
            if found[1] is not None:
                yield Match(found.start(), found.end(), found[1], ())
            else:
                rows = found[2].split(_DELIMITER)
                words = tuple(tuple(_INDEX.findall(row)) for row in rows)
                yield Match(found.start(), found.end(), None, words)

    def write(self, phrase: str | None, rows: Sequence[Sequence[str]]) -> str:
        name = "" if phrase is None else f"<phrase>{phrase}</phrase>"
        texts = ("".join(f"<patch_index_{word}>" for word in row) for row in rows)
        return name + (f"<object>{_DELIMITER.join(texts)}</object>" if rows else "")


@dataclass(frozen=True, slots=True)
class LocTokens:
    """`<loc0239><loc0256><loc0853><loc0512>`: each y before its x, names in plain text."""

    def find(self, text: str) -> Iterator[Match]:
        for found in _LOCS.finditer(text):
            yield Match(found.start(), found.end(), None, (_swapped(_LOC.findall(found[0])),))

    def write(self, phrase: str | None, rows: Sequence[Sequence[str]]) -> str:
        return named(phrase, "".join(f"<loc{word}>" for row in rows for word in _swapped(row)))


@dataclass(frozen=True, slots=True)
class PointTags:
    """`<point x="61.5" y="40.6" alt="the cat">the cat</point>`, `<points x1="..." y1="..." ...>`.

    The name is the text between the tags; `alt`, which repeats it, is not read.
    """

    def find(self, text: str) -> Iterator[Match]:
        for found in _POINTS.finditer(text):
            values = {name: value.strip() for name, value in _ATTRIBUTE.findall(found[1])}
            numbers = [name[1:] for name in values if name[0] == "x" and "y" + name[1:] in values]
            rows = tuple((values[f"x{number}"], values[f"y{number}"]) for number in numbers)
            if rows:
                yield Match(found.start(), found.end(), found[2] or None, rows)

    def write(self, phrase: str | None, rows: Sequence[Sequence[str]]) -> str:
        name = phrase or ""
        if not rows:
            return name
        tag = "point" if len(rows) == 1 else "points"
        numbers = [""] if len(rows) == 1 else [str(n) for n in range(1, len(rows) + 1)]
        places = " ".join(
            f'x{number}="{x}" y{number}="{y}"' for number, (x, y) in zip(numbers, rows, strict=True)
        )
        return f'<{tag} {places} alt="{html.escape(name)}">{name}</{tag}>'


@dataclass(frozen=True, slots=True)
class JsonObjects:
    """`{"bbox_2d": [176, 106, 232, 160], "label": "the cat"}`, and `point_2d` for points.

    The label may stand first. Objects that say more than this stay text, for nothing would hold it.
    """

    def find(self, text: str) -> Iterator[Match]:
        for found in _OBJECT.finditer(text):
            row = _words(found["numbers"])
            if len(row) != (4 if found["kind"] == "bbox" else 2):
                continue
            label = found["first"] or found["last"]
            try:
                phrase = None if label is None else json.loads(label)
            except ValueError:
                continue
            # A second row, which is no location: it is mentioned, and never read.
            rows = (row, ()) if found["more"] else (row,)
            yield Match(found.start(), found.end(), phrase, rows)

    def write(self, phrase: str | None, rows: Sequence[Sequence[str]]) -> str:
        if not rows:
            return phrase or ""
        label = "" if phrase is None else f', "label": {json.dumps(phrase, ensure_ascii=False)}'
        return ", ".join(
            f'{{"{"bbox" if len(row) == 4 else "point"}_2d": [{", ".join(row)}]{label}}}'
            for row in rows
        )


def named(phrase: str | None, locations: str) -> str:
    """A name in plain text before its locations, apart from them."""
    apart = phrase and locations and not phrase[-1].isspace()
    return (phrase or "") + (" " if apart else "") + locations


_DELIMITER = "<delimiter_of_multi_objects/>"
_INDEX = re.compile(r"<patch_index_(\d{4})>", re.ASCII)
_INDICES = rf"(?:<patch_index_\d{{4}}>|{_DELIMITER})*"
_PATCHES = re.compile(rf"<phrase>([^<]+)</phrase>|<object>({_INDICES})</object>", re.ASCII)
_LOC = re.compile(r"<loc(\d{4})>", re.ASCII)
_LOCS = re.compile(r"(?:<loc\d{4}>){4}", re.ASCII)
_ATTRIBUTE = re.compile(r'([xy]\d{0,4})="([^"]*)"', re.ASCII)
_POINTS = re.compile(r'<points?((?: [a-z]+\d{0,4}="[^"<]*")+)>([^<]*)</points?>', re.ASCII)
_STRING = r'"(?:[^"\\]|\\.)*"'
_OBJECT = re.compile(
    rf'\{{\s*(?:"label"\s*:\s*(?P<first>{_STRING})\s*,\s*)?'
    r'"(?P<kind>bbox|point)_2d"\s*:\s*\[(?P<numbers>[^\[\]]*)\]\s*'
    rf'(?:,\s*"label"\s*:\s*(?P<last>{_STRING})\s*)?(?P<more>,[^{{}}]*)?\}}'
)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(","))


def _swapped(words: Sequence[str]) -> tuple[str, ...]:
    """The x before each y where it came after, and the other way round."""
    return tuple(word for pair in zip(words[1::2], words[::2], strict=True) for word in pair)


def _between(*tags: tuple[str, str]) -> re.Pattern[str]:
    pairs = [[re.escape(tag) for tag in pair] for pair in tags]
    return re.compile("|".join(rf"{first}([^<]+){last}" for first, last in pairs))


def _listed(text: str, pattern: re.Pattern[str]) -> tuple[tuple[str, ...], ...]:
    """The words of each bracketed list in `text`; none where anything else stands between."""
    if pattern.sub("", text).replace(",", "").strip():
        return ()
    return tuple(_words(found) for found in pattern.findall(text))
