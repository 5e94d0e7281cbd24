"""Chat formats: turns become one text, with the spans of it that are learned."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from locvlm.errors import ConfigError

IMAGE = "<image>"


class Piece(NamedTuple):
    """Text of a turn and what its tokens weigh in the loss, where the turn is learned."""

    text: str
    weight: float = 1.0


class Turn(NamedTuple):
    """One speaker's pieces; all locations are text by now."""

    role: Literal["user", "assistant"]
    pieces: tuple[Piece, ...]

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces)


class Span(NamedTuple):
    """Characters `start` to `end` (exclusive) are learned, each token with `weight`."""

    start: int
    end: int
    weight: float


class Rendered(NamedTuple):
    """A conversation as the tokenizer gets it, and its learned spans in order."""

    text: str
    learned: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """How turns are written for a language model.

    The learned spans are the assistant's text with its end token, and nothing else.

    Args:
        system: text before the first turn, with its separator.
        user: the user's turn; {text} is replaced. Without {text} the prompt is discarded, as in
            LLaVA's `plain` format for adapter pre-training.
        assistant: what opens the assistant's turn; generation continues from here.
        answer: the assistant's turn after its opening; {text} is replaced.
        end: ends the assistant's turn; generation stops at the tokenizer's end token.
        image: what stands before the first user's text, once for each image; holds `<image>`.

    Raises:
        ConfigError: `answer` does not hold {text}, or `image` not exactly one `<image>`.

    Source: LLaVA's conversation templates `plain` and `vicuna_v1`.
    """

    system: str = ""
    user: str = "USER: {text} "
    assistant: str = "ASSISTANT:"
    answer: str = " {text}"
    end: str = "</s>"
    image: str = f"{IMAGE}\n"

    def __post_init__(self) -> None:
        if "{text}" not in self.answer:
            raise ConfigError(f"answer {self.answer!r} holds no {{text}}", where="chat.answer")
        if self.image.count(IMAGE) != 1:
            raise ConfigError(f"image {self.image!r} holds no single {IMAGE}", where="chat.image")

    def check_end(self, token: str | None) -> None:
        """Refuses a tokenizer that ends in another way: generation would not stop.

        Args:
            token: the tokenizer's end token.

        Raises:
            ConfigError: answers end with something else; white space alone ends them anywhere.
        """
        if self.end.strip() not in ("", token):
            raise ConfigError(
                f"answers end with {self.end!r}, the tokenizer's end is {token!r}",
                where="chat.end",
                fix="set chat.end to the tokenizer's end token",
            )

    def render(self, turns: Sequence[Turn], n_images: int = 0) -> Rendered:
        """The whole conversation; one that ends with a user's turn opens the assistant's."""
        text = self.system
        learned: list[Span] = []
        images = self.image * n_images
        for turn in turns:
            if turn.role == "user":
                before, _, after = self.user.partition("{text}")
                spoken = turn.text if "{text}" in self.user else ""
                text += before + images + spoken + after
                images = ""
                continue
            text += self.assistant
            before, _, after = self.answer.partition("{text}")
            weight = turn.pieces[0].weight
            pieces = [Piece(before, weight), *turn.pieces, Piece(after + self.end, weight)]
            for piece in pieces:
                learned.append(Span(len(text), len(text) + len(piece.text), piece.weight))
                text += piece.text
        if turns and turns[-1].role == "user":
            text += self.assistant
        return Rendered(text, tuple(learned))


def token_weights(offsets: Sequence[tuple[int, int]], learned: Sequence[Span]) -> list[float]:
    """What each token weighs in the loss, from its character span; 0 where it is not learned.

    Labels follow from the text that was tokenized, whatever the tokenizer merges: there is no
    second count of tokens that could disagree with the first. A token takes the largest weight of
    the spans that it touches, so that " 52" merged from a space and a number weighs as a number.

    Args:
        offsets: (start, end) of each token, in order; empty spans stand for added tokens.
        learned: spans in order, without overlap.
    """
    weights: list[float] = []
    current = 0
    for start, end in offsets:
        while current < len(learned) and learned[current].end <= start:
            current += 1
        weight = 0.0
        if start < end and current < len(learned) and learned[current].start <= start:
            ahead = current
            while ahead < len(learned) and learned[ahead].start < end:
                weight = max(weight, learned[ahead].weight)
                ahead += 1
        weights.append(weight)
    return weights
