"""The fine-tuning objectives: annotated images become questions and answers with locations.

An objective is a shuffled stream of turns, each candidate once; `Mix` draws from several. Prompts
come from `conf/prompts/`, randomness is an argument, and answers hold the box itself, in pixels:
numbers become text in the processor.

Source: LocVLM, CVPR 2024, table 1; the prompts are in its supplement.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol, TypeAlias, TypeVar

from locvlm.errors import ConfigError
from locvlm.templates import fill
from locvlm.text import article
from locvlm.types import Box, Instance, Location, Message, Sample

Turn: TypeAlias = tuple[Message, Message]
T = TypeVar("T")
BOX_WORDS = "(x1,y1,x2,y2) bbox"
POINT_WORDS = "(cx,cy) point"


class Objective(Protocol):
    """What `Mix` draws turns from."""

    def turns(self, sample: Sample, rng: Random) -> Iterator[Turn]:
        """Questions and answers about `sample`, in random order, each candidate once."""


@dataclass(frozen=True, slots=True)
class LocPred:
    """Asks where an object is; the answer is its location.

    `NegPred` draws from the same prompts, so that a prompt never tells whether the object is there.

    Args:
        prompts: templates with {category} and {repr}; one is drawn for each turn.
        answer: template of the target, with {location}.
        description_share: how often an object is named by its description, where it has one.
        point_share: how often the centre point is asked for instead of the box.
        weight: what each token of the answer weighs in the loss; 1 is the paper's.
        number_weights: what the location's numbers weigh instead, see `Message`.
    """

    prompts: Sequence[str]
    answer: str = "It is located at {location}."
    description_share: float = 1.0
    point_share: float = 0.0
    weight: float = 1.0
    number_weights: Sequence[float] = ()

    def turns(self, sample: Sample, rng: Random) -> Iterator[Turn]:
        for instance in _shuffled(nameable_instances(sample.instances), rng):
            location, words = _location(instance.box, self.point_share, rng)
            name = _name(instance, self.description_share, rng)
            question = fill(rng.choice(self.prompts), category=name, repr=words)
            answer = Message(
                "assistant",
                fill(self.answer, location=location),
                weight=self.weight,
                number_weights=tuple(self.number_weights),
            )
            yield Message("user", question), answer


@dataclass(frozen=True, slots=True)
class NegPred:
    """Asks where an absent object is; the answer says that there is none.

    Args:
        prompts: the templates of `LocPred`.
        answer: the target.
        point_share: how often the prompt asks for a point, as in `LocPred`.
        weight: what each token of the answer weighs in the loss. Only the first one says anything,
            and beside numbers that weigh much it is not heard.
    """

    prompts: Sequence[str]
    answer: str = "There is no such object in the image."
    point_share: float = 0.0
    weight: float = 1.0

    def turns(self, sample: Sample, rng: Random) -> Iterator[Turn]:
        for name in _shuffled(sample.absent, rng):
            words = POINT_WORDS if rng.random() < self.point_share else BOX_WORDS
            question = fill(rng.choice(self.prompts), category=name, repr=words)
            answer = Message("assistant", (self.answer,), weight=self.weight)
            yield Message("user", question), answer


@dataclass(frozen=True, slots=True)
class RevLoc:
    """Asks what is at a location; the answer describes the object there.

    Args:
        prompts: templates with {location}.
        answer: template of the target, with {description}.
        description_share: how often the description is the target; otherwise the category.
        point_share: how often the centre point is given instead of the box.
        weight: what each token of the answer weighs in the loss.
    """

    prompts: Sequence[str]
    answer: str = "There is a {description}."
    description_share: float = 1.0
    point_share: float = 0.0
    weight: float = 1.0

    def turns(self, sample: Sample, rng: Random) -> Iterator[Turn]:
        for instance in _shuffled(nameable_instances(sample.instances), rng):
            location, _ = _location(instance.box, self.point_share, rng)
            name = _name(instance, self.description_share, rng)
            question = fill(rng.choice(self.prompts), location=location)
            answer = fill(self.answer, description=name)
            yield Message("user", question), Message("assistant", answer, weight=self.weight)


@dataclass(frozen=True, slots=True)
class Presence:
    """Asks whether an object is there, as often for absent ones as for those that are.

    Beyond the paper: the yes/no questions of hallucination benchmarks (POPE) as training turns.

    Args:
        prompts: templates with {article} and {category}.
        present: the answer if it is there.
        absent: the answer if it is not.
        description_share: how often an object is named by its description, where it has one.
        weight: what each token of the answer weighs in the loss.
    """

    prompts: Sequence[str]
    present: str = "Yes."
    absent: str = "No."
    description_share: float = 1.0
    weight: float = 1.0

    def turns(self, sample: Sample, rng: Random) -> Iterator[Turn]:
        there = [
            _name(instance, self.description_share, rng)
            for instance in nameable_instances(sample.instances)
        ]
        n_absent = min(len(there), len(sample.absent))
        asked = [(name, self.present) for name in there]
        asked += [(name, self.absent) for name in rng.sample(sample.absent, n_absent)]
        for name, answer in _shuffled(asked, rng):
            question = fill(rng.choice(self.prompts), article=article(name), category=name)
            yield Message("user", question), Message("assistant", (answer,), weight=self.weight)


@dataclass(frozen=True, slots=True)
class Mix:
    """A multi-turn conversation about one image, drawn from several objectives.

    The image is encoded once for all its turns. An objective that has nothing left to ask about
    an image leaves its share to the others.

    Args:
        objectives: what to draw from; empty for a run without localization.
        weights: share of each, in any unit; the paper does not publish its own, 1:1:1 is usual.
        turns: questions per image at most.

    Raises:
        ConfigError: weights do not match the objectives, or `turns` is below 1.
    """

    objectives: Sequence[Objective]
    weights: Sequence[float]
    turns: int = 6

    def __post_init__(self) -> None:
        if len(self.weights) != len(self.objectives) or any(w < 0 for w in self.weights):
            raise ConfigError(
                f"{len(self.objectives)} objectives need as many weights of at least 0, "
                f"got {list(self.weights)}",
                where="objectives.weights",
            )
        if self.turns < 1:
            raise ConfigError(f"turns must be at least 1, got {self.turns}", where="objectives")

    def __len__(self) -> int:
        """Objectives that can be drawn; 0 means that there is nothing to learn here."""
        return sum(weight > 0 for weight in self.weights)

    def __call__(self, sample: Sample, rng: Random) -> list[Message]:
        """Up to `turns` questions and their answers; empty where no objective has any."""
        streams = [objective.turns(sample, rng) for objective in self.objectives]
        weights = list(self.weights)
        messages: list[Message] = []
        n_turns = 0
        while n_turns < self.turns and any(weights):
            drawn = rng.choices(range(len(streams)), weights)[0]
            turn = next(streams[drawn], None)
            if turn is None:
                weights[drawn] = 0
                continue
            messages += turn
            n_turns += 1
        return messages


def single_instances(instances: Sequence[Instance]) -> list[Instance]:
    """Instances whose category occurs once; a crowd makes its category occur many times.

    Only they can be asked for by category without ambiguity (LocVLM, CVPR 2024, pseudo-data).
    """
    seen = _occurrences(instances)
    return [instance for instance in instances if seen[instance.category] == 1]


def nameable_instances(instances: Sequence[Instance]) -> list[Instance]:
    """The single instances, and those whose description is unique; in their order."""
    seen = _occurrences(instances)
    return [one for one in instances if seen[one.category] == 1 or (one.unique and one.description)]


def _occurrences(instances: Sequence[Instance]) -> dict[str, int]:
    seen: dict[str, int] = {}
    for instance in instances:
        seen[instance.category] = seen.get(instance.category, 0) + 1 + instance.crowd
    return seen


def _shuffled(items: Sequence[T], rng: Random) -> list[T]:
    return rng.sample(items, len(items))


def _location(box: Box, point_share: float, rng: Random) -> tuple[Location, str]:
    if rng.random() < point_share:
        return box.center, POINT_WORDS
    return box, BOX_WORDS


def _name(instance: Instance, description_share: float, rng: Random) -> str:
    if instance.description and (instance.unique or rng.random() < description_share):
        return instance.description  # a unique one needs no draw: its category may be ambiguous
    return instance.category
