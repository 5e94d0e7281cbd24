"""What can be asked about a scene; each topic makes one question and its answer.

Templates come from `conf/scenes/talk/`. Objects are named by category or by description, and
listed in random order: a fixed order would tell their places.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, Protocol, TypeAlias

from locvlm.errors import ConfigError
from locvlm.scenes.scene import Scene
from locvlm.scenes.world import SceneObject
from locvlm.templates import fill_text
from locvlm.text import article
from locvlm.types import Instance

Turn: TypeAlias = tuple[str, str]
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
# Two objects are compared where one side is longer by this factor, so that one can see it
_CLEARLY = 1.2


class Topic(Protocol):
    """One kind of question."""

    def __call__(self, scene: Scene, rng: Random, descriptions: float) -> Turn | None:
        """A question and its answer; None where the scene does not allow it.

        Args:
            scene: what it is about.
            rng: chooses objects and templates.
            descriptions: how often an object is named by description instead of category.
        """


@dataclass(frozen=True, slots=True)
class Presence:
    """Asks whether an object is there; as often for absent ones as for those that are.

    Args:
        questions: templates with {article} and {category}.
        present: the answer if it is there.
        absent: the answer if it is not.
    """

    questions: Sequence[str]
    present: str = "Yes."
    absent: str = "No."

    def __call__(self, scene: Scene, rng: Random, descriptions: float) -> Turn | None:
        there = not scene.absent or rng.random() < 0.5
        if there:
            name = name_of(rng.choice(scene.objects).instance(), rng, descriptions)
        else:
            described = rng.random() < descriptions
            name = rng.choice(scene.absent_descriptions if described else scene.absent)
        question = fill_text(rng.choice(self.questions), article=article(name), category=name)
        return question, self.present if there else self.absent


@dataclass(frozen=True, slots=True)
class Color:
    """Asks for the colour of an object.

    Args:
        questions: templates with {category}.
        answer: template with {category} and {color}.
    """

    questions: Sequence[str]
    answer: str = "The {category} is {color}."

    def __call__(self, scene: Scene, rng: Random, descriptions: float) -> Turn | None:
        item = rng.choice(scene.objects)
        question = fill_text(rng.choice(self.questions), category=item.shape)
        return question, fill_text(self.answer, category=item.shape, color=item.color)


@dataclass(frozen=True, slots=True)
class Shape:
    """Asks what the object of a colour is.

    Args:
        questions: templates with {color}.
        answer: template with {article} and {category}.
    """

    questions: Sequence[str]
    answer: str = "It is {article} {category}."

    def __call__(self, scene: Scene, rng: Random, descriptions: float) -> Turn | None:
        item = rng.choice(scene.objects)
        question = fill_text(rng.choice(self.questions), color=item.color)
        return question, fill_text(self.answer, article=article(item.shape), category=item.shape)


@dataclass(frozen=True, slots=True)
class Count:
    """Asks how many objects there are.

    Args:
        questions: to choose from.
        answer: template with {count}, such as "two objects".
    """

    questions: Sequence[str]
    answer: str = "I see {count}."

    def __call__(self, scene: Scene, rng: Random, descriptions: float) -> Turn | None:
        return rng.choice(self.questions), fill_text(self.answer, count=count_of(scene.objects))


@dataclass(frozen=True, slots=True)
class Listing:
    """Asks for all objects.

    Args:
        questions: to choose from.
        answer: template with {objects} and, if wanted, {count}.
    """

    questions: Sequence[str]
    answer: str = "There is {objects}."

    def __call__(self, scene: Scene, rng: Random, descriptions: float) -> Turn:
        fields = {"objects": listing_of(scene.objects, rng), "count": count_of(scene.objects)}
        return rng.choice(self.questions), fill_text(self.answer, **fields)


@dataclass(frozen=True, slots=True)
class Compare:
    """Asks which of two objects is the larger one, or the smaller one, and why.

    Args:
        questions: templates with {category} and {other}, in random order.
        answer: template with {category}, the right one, and {other}.
        wanted: which of the two is the right one.
    """

    questions: Sequence[str]
    answer: str
    wanted: Literal["larger", "smaller"] = "larger"

    def __post_init__(self) -> None:
        if self.wanted not in ("larger", "smaller"):
            raise ConfigError(
                f"cannot compare which object is {self.wanted!r}",
                where="talk.reasoning",
                fix="choose larger or smaller",
            )

    def __call__(self, scene: Scene, rng: Random, descriptions: float) -> Turn | None:
        pairs = [
            (big, small) if self.wanted == "larger" else (small, big)
            for big in scene.objects
            for small in scene.objects
            if _side(big) >= _CLEARLY * _side(small)
        ]
        if not pairs:
            return None
        names = [name_of(item.instance(), rng, descriptions) for item in rng.choice(pairs)]
        first, second = rng.sample(names, 2)
        question = fill_text(rng.choice(self.questions), category=first, other=second)
        return question, fill_text(self.answer, category=names[0], other=names[1])


@dataclass(frozen=True, slots=True)
class TakenAway:
    """Asks how many objects would be left without one of them.

    Args:
        questions: templates with {category}.
        answer: template with {left} and {count}, such as "two objects".
    """

    questions: Sequence[str]
    answer: str

    def __call__(self, scene: Scene, rng: Random, descriptions: float) -> Turn | None:
        item, *others = rng.sample(scene.objects, len(scene.objects))
        name = name_of(item.instance(), rng, descriptions)
        fields = {"left": count_of(others), "count": count_of(scene.objects)}
        question = fill_text(rng.choice(self.questions), category=name)
        return question, fill_text(self.answer, **fields)


def name_of(instance: Instance, rng: Random, descriptions: float) -> str:
    """The description of an object, where it has one and chance wants it, or else its category."""
    described = rng.random() < descriptions
    return (instance.description if described else None) or instance.category


def count_of(objects: Sequence[SceneObject]) -> str:
    """How many they are, such as "two objects"."""
    n = len(objects)
    return f"{NUMBERS[n] if n < len(NUMBERS) else n} object{'' if n == 1 else 's'}"


def listing_of(objects: Sequence[SceneObject], rng: Random) -> str:
    """All of them in random order, such as "a red circle and an orange star"."""
    drawn = rng.sample(objects, len(objects))
    names = [f"{article(item.description)} {item.description}" for item in drawn]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _side(item: SceneObject) -> float:
    return item.box.x2 - item.box.x1
