"""The nouns that every part shares: locations, instances, messages, samples, questions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, NewType, TypeAlias

from locvlm.errors import DataError


class Point(NamedTuple):
    """A point in pixels of the original image."""

    x: float
    y: float


class Box(NamedTuple):
    """An axis-aligned box: corners in pixels, (x2, y2) on its far edge (COCO's x + width)."""

    x1: float
    y1: float
    x2: float
    y2: float

    @property
    def center(self) -> Point:
        return Point((self.x1 + self.x2) / 2, (self.y1 + self.y2) / 2)

    @property
    def area(self) -> float:
        """Square pixels; 0 where the corners are in the wrong order."""
        return max(0.0, self.x2 - self.x1) * max(0.0, self.y2 - self.y1)


Location: TypeAlias = Box | Point
# (x1, y1, x2, y2) or (x, y) in the model's frame, 0 to 1; a new type, so that pixels cannot pass
Unit = NewType("Unit", tuple[float, ...])
Part: TypeAlias = str | Location
Size: TypeAlias = tuple[int, int]
# What is done to an image before it is shown: mirrored left to right, or all grey. Empty: nothing.
View: TypeAlias = Literal["", "mirrored", "grey"]


@dataclass(frozen=True, slots=True)
class Instance:
    """One annotated object.

    Args:
        category: its class name.
        box: in pixels of the original image.
        description: a phrase that names this very object, such as "circle that is red".
        crowd: the box covers many objects of the category (COCO's `iscrowd`).
        unique: the description fits no other object of the image, even where the category does
            (a referring expression).
    """

    category: str
    box: Box
    description: str | None = None
    crowd: bool = False
    unique: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """One turn: text with locations between the pieces, still in original pixels.

    Numbers become text only in the processor, so one shard serves every coordinate scheme.

    Args:
        role: who speaks; the loss counts the assistant's turns only.
        parts: text and locations, in order.
        weight: what each of its tokens weighs in the loss; 1 in the paper's recipe.
        number_weights: what the tokens of a location's first, second, ... number weigh instead;
            the last one serves all further numbers. Empty: they weigh `weight`.
    """

    role: Literal["user", "assistant"]
    parts: tuple[Part, ...]
    weight: float = 1.0
    number_weights: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """One image and all that is said about it, as readers yield it and shards store it.

    Args:
        key: unique in its data set and the same in every run; errors and logs name it.
        source: file and record it was read from, for error messages.
        image: encoded bytes (JPEG, PNG, WebP); None for text-only conversations.
        size: (width, height) of the decoded image in pixels; None without an image.
        instances: annotated objects; empty where there are no annotations.
        absent: categories (or descriptions) known not to be in the image.
        messages: finished turns; empty where objectives draw them at load time.
        extra: whatever else the record held and a benchmark needs.

    Raises:
        DataError: an image without its size, or a size without an image.
    """

    key: str
    source: str
    image: bytes | None = None
    size: Size | None = None
    instances: tuple[Instance, ...] = ()
    absent: tuple[str, ...] = ()
    messages: tuple[Message, ...] = ()
    extra: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.image is None) != (self.size is None):
            raise DataError(
                f"sample {self.key!r} has an image or a size, but not both",
                where=self.source,
                fix="give both, or neither for a text-only conversation",
            )

    @property
    def where(self) -> str:
        """What error messages call it."""
        return f"{self.source}, sample {self.key!r}"


@dataclass(frozen=True, slots=True)
class Question:
    """One thing a benchmark asks of a predictor.

    Args:
        key: unique in its benchmark and the same in every run.
        sample: the image that it is about.
        messages: the conversation so far; the last message is the user's question.
        candidates: closed answers to compare by likelihood; empty for free generation.
        meta: what the score needs to know (JSON values), such as the gold answer.
        image: file of the image, for a sample that does not hold it: benchmarks have more images
            than fit in memory, so it is read when the question is asked. Empty: there is none.
        view: what is done to the image then.
    """

    key: str
    sample: Sample
    messages: tuple[Message, ...]
    candidates: tuple[str, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    image: str = ""
    view: View = ""
