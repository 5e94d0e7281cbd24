"""Sides: where an object lies in its image and as seen from another one; pure geometry of boxes.

Serves any annotated image: the built-in scenes write text with it, the evaluation its questions.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Literal, TypeAlias

from locvlm.errors import ConfigError
from locvlm.objectives import single_instances
from locvlm.templates import fill_text
from locvlm.types import Box, Instance, Size

Side: TypeAlias = Literal["left", "right", "above", "below"]
Axis: TypeAlias = Literal["horizontal", "vertical"]
Kind: TypeAlias = Literal["image", "object"]

SIDES: Mapping[Axis, tuple[Side, Side]] = {
    "horizontal": ("left", "right"),
    "vertical": ("above", "below"),
}
# Objects with their centre between these shares of the image's width or height lie on no side.
# Source: LocVLM, CVPR 2024, COCO-Spatial.
LOW, HIGH = 0.4, 0.6


def opposite(side: Side) -> Side:
    """The other side of the same axis.

    >>> opposite("above")
    'below'
    """
    first, second = next(pair for pair in SIDES.values() if side in pair)
    return second if side == first else first


def side_of_image(box: Box, size: Size, axis: Axis) -> Side | None:
    """The side of the image on which `box` has its centre; None near the middle.

    >>> side_of_image(Box(0, 0, 20, 64), (64, 64), "horizontal")
    'left'
    """
    along = 0 if axis == "horizontal" else 1
    share = box.center[along] / size[along]
    if share < LOW:
        return SIDES[axis][0]
    return SIDES[axis][1] if share > HIGH else None


def side_of_object(box: Box, other: Box, axis: Axis) -> Side | None:
    """The side of `other` on which `box` lies; None where they overlap or touch on this axis.

    >>> side_of_object(Box(0, 0, 10, 10), Box(20, 0, 30, 10), "horizontal")
    'left'
    """
    along = 0 if axis == "horizontal" else 1
    if box[along + 2] < other[along]:
        return SIDES[axis][0]
    return SIDES[axis][1] if box[along] > other[along + 2] else None


@dataclass(frozen=True, slots=True)
class SideFact:
    """An instance lies on a side: of its image, or of another instance.

    Args:
        instance: the one that lies there.
        axis: of the side.
        side: where it lies.
        other: as seen from this instance; None: it is a side of the image.
    """

    instance: Instance
    axis: Axis
    side: Side
    other: Instance | None = None

    @property
    def kind(self) -> Kind:
        """What the side belongs to."""
        return "image" if self.other is None else "object"

    @property
    def instances(self) -> tuple[Instance, ...]:
        """The one that lies there and, for a side of an object, the other one."""
        return (self.instance,) if self.other is None else (self.instance, self.other)

    def say(self, template: str, names: Sequence[str] | None = None) -> str:
        """`template` with {category}, {other} and {side} replaced.

        Args:
            template: a question or a statement.
            names: what to call the instances; their categories if None.
        """
        names = names or [instance.category for instance in self.instances]
        named = dict(zip(("category", "other"), names, strict=False))
        return fill_text(template, side=self.side, **named)


def swapped(fact: SideFact) -> SideFact:
    """The same pair seen from the one that was asked for: the answer is the opposite side.

    A side of the image is returned as it is.
    """
    if fact.other is None:
        return fact
    return SideFact(fact.other, fact.axis, opposite(fact.side), fact.instance)


def mirrored(fact: SideFact, width: float) -> SideFact:
    """What is true once the image, `width` pixels wide, is mirrored left to right."""
    instance, *rest = (
        replace(one, box=Box(width - one.box.x2, one.box.y1, width - one.box.x1, one.box.y2))
        for one in fact.instances
    )
    side = opposite(fact.side) if fact.axis == "horizontal" else fact.side
    return SideFact(instance, fact.axis, side, *rest)


def image_facts(instances: Sequence[Instance], size: Size, axis: Axis) -> list[SideFact]:
    """Each instance that a category tells apart, with its side of the image where it has one."""
    sides = ((i, side_of_image(i.box, size, axis)) for i in single_instances(instances))
    return [SideFact(instance, axis, side) for instance, side in sides if side]


def object_facts(instances: Sequence[Instance], size: Size, axis: Axis) -> list[SideFact]:
    """Ordered pairs of instances that lie on opposite sides of the image.

    Source: LocVLM, CVPR 2024, COCO-Spatial.
    """
    facts = image_facts(instances, size, axis)
    return [
        SideFact(fact.instance, axis, fact.side, other.instance)
        for fact in facts
        for other in facts
        if fact.side != other.side
    ]


def clear_pairs(instances: Sequence[Instance], axis: Axis) -> list[SideFact]:
    """Ordered pairs of instances of which one ends before the other begins.

    Source: the released COCO-Spatial builder (kahnchana/locvlm, `filter_spatial.py`).
    """
    singles = single_instances(instances)
    return [
        SideFact(instance, axis, side, other)
        for instance in singles
        for other in singles
        if (side := side_of_object(instance.box, other.box, axis))
    ]


def worked_examples(
    fact: SideFact, facts: Sequence[SideFact], rng: Random
) -> tuple[SideFact, SideFact] | None:
    """Two facts like `fact` about the same image, one of each side, that do not give it away.

    For a side of the image they are about two other instances; for a side of an object they are
    about a third instance and one of the two, seen from either (objects 1-2, then 3-1).

    Args:
        fact: what will be asked.
        facts: all facts of its image, kind and axis.
        rng: chooses among the instances that fit.

    Returns:
        None where the image has too few instances.
    """
    asked = {instance.category for instance in fact.instances}
    pairs = [
        (first, second)
        for first in facts
        for second in facts
        if first.side != second.side and _is_new(first, second, asked)
    ]
    return rng.choice(pairs) if pairs else None


def _is_new(first: SideFact, second: SideFact, asked: set[str]) -> bool:
    if first.other is None or second.other is None:
        return not {first.instance.category, second.instance.category} & asked
    mirrored = first.instances == second.instances[::-1]
    return mirrored and len({first.instance.category, first.other.category} & asked) == 1


@dataclass(frozen=True, slots=True)
class SideQuestion:
    """A question with one of two sides for an answer.

    Args:
        fact: what it asks for; `fact.side` is the right answer, one word.
        text: the question.
        candidates: the two full answers that it may have, in the order of `SIDES`.
        examples: worked questions on the same image to ask before it, with their answers.
    """

    fact: SideFact
    text: str
    candidates: tuple[str, str]
    examples: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class SideWording:
    """How sides are asked for.

    Args:
        image: templates with {category} for a side of the image, for each axis.
        object: templates with {category} and {other} for a side of another object.
        answer: template of the answer, with {side}.

    Raises:
        ConfigError: an axis has no template.
    """

    image: Mapping[Axis, Sequence[str]]
    object: Mapping[Axis, Sequence[str]]
    answer: str = "{side}."

    def __post_init__(self) -> None:
        for kind, templates in (("image", self.image), ("object", self.object)):
            if missing := [axis for axis in SIDES if not templates.get(axis)]:
                raise ConfigError(
                    f"no question asks for {' or '.join(missing)} sides",
                    where=f"sides, {kind}",
                    fix=f"give at least one template for each of {', '.join(SIDES)}",
                )

    def ask(self, fact: SideFact, rng: Random, names: Sequence[str] | None = None) -> str:
        """A question whose answer is `fact`.

        Args:
            fact: what is asked for.
            rng: chooses the template.
            names: what to call its instances, as in `SideFact.say`.
        """
        templates = self.image if fact.other is None else self.object
        return fact.say(rng.choice(templates[fact.axis]), names)

    def reply(self, side: Side) -> str:
        """The answer that names `side`."""
        return fill_text(self.answer, side=side)


def side_questions(
    instances: Sequence[Instance],
    size: Size,
    wording: SideWording,
    rng: Random,
    *,
    in_context: bool = False,
) -> Iterator[SideQuestion]:
    """At most one question for each kind and axis: about the image, then about pairs of objects.

    Args:
        instances: annotated objects; those that share their category are not asked for.
        size: (width, height) of their image in pixels.
        wording: of the questions.
        rng: chooses objects and templates.
        in_context: begin with two worked questions; images with too few objects have none then.
    """
    for find in (image_facts, object_facts):
        for axis in SIDES:
            facts = find(instances, size, axis)
            for fact in rng.sample(facts, len(facts)):
                examples = worked_examples(fact, facts, rng) if in_context else ()
                if examples is not None:
                    yield _question(fact, examples, wording, rng)
                    break


def _question(
    fact: SideFact, examples: Sequence[SideFact], wording: SideWording, rng: Random
) -> SideQuestion:
    first, second = SIDES[fact.axis]
    return SideQuestion(
        fact=fact,
        text=wording.ask(fact, rng),
        candidates=(wording.reply(first), wording.reply(second)),
        examples=tuple((wording.ask(e, rng), wording.reply(e.side)) for e in examples),
    )
