"""Conversations about scenes as LLaVA has them: conversation, detailed description, reasoning.

A small share of the turns speaks of sides, as in LLaVA's data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal, TypeAlias, get_args

from locvlm.errors import ConfigError
from locvlm.scenes.scene import Scene
from locvlm.scenes.topics import Listing, Topic, Turn, name_of
from locvlm.spatial import (
    SIDES,
    Axis,
    Kind,
    SideFact,
    SideWording,
    clear_pairs,
    image_facts,
)

TalkKind: TypeAlias = Literal["conversation", "detail", "reasoning"]
# Draws per wanted turn: a question that was asked already, or that finds no object, is drawn again
_TRIES = 20


@dataclass(frozen=True, slots=True)
class Topics:
    """Topics and how often each is chosen.

    Args:
        topics: to choose from.
        weights: share of each, in any unit.

    Raises:
        ConfigError: weights do not match the topics.
    """

    topics: Sequence[Topic]
    weights: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.weights) != len(self.topics) or not _is_shares(self.weights):
            raise ConfigError(
                f"{len(self.topics)} topics need as many weights of at least 0, not all of them 0, "
                f"got {list(self.weights)}",
                where="talk",
            )

    def draw(self, scene: Scene, rng: Random, descriptions: float) -> Turn | None:
        """One question and its answer, or None where the chosen topic has none."""
        return rng.choices(self.topics, self.weights)[0](scene, rng, descriptions)


@dataclass(frozen=True, slots=True)
class SideTalk:
    """How conversations speak of sides.

    Args:
        wording: of the questions.
        statements: of detailed descriptions, with {category}, {side} and, for objects, {other};
            for each kind of side and each axis.
        kinds: share of sides of the image and of other objects, in any unit.
    """

    wording: SideWording
    statements: Mapping[Kind, Mapping[Axis, str]]
    kinds: Mapping[Kind, float]

    def __post_init__(self) -> None:
        _check_shares(self.kinds, get_args(Kind), "talk.sides.kinds")

    def turn(self, scene: Scene, rng: Random, descriptions: float) -> Turn | None:
        """A question about a side and its answer; None where no object lies clearly on one."""
        fact = self._fact(scene, rng)
        if fact is None:
            return None
        names = [name_of(instance, rng, descriptions) for instance in fact.instances]
        return self.wording.ask(fact, rng, names), self.wording.reply(fact.side)

    def statement(self, scene: Scene, rng: Random, descriptions: float) -> str | None:
        """A sentence about a side; None where no object lies clearly on one."""
        fact = self._fact(scene, rng)
        if fact is None:
            return None
        names = [name_of(instance, rng, descriptions) for instance in fact.instances]
        return fact.say(self.statements[fact.kind][fact.axis], names)

    def _fact(self, scene: Scene, rng: Random) -> SideFact | None:
        kind = rng.choices(list(self.kinds), list(self.kinds.values()))[0]
        axis = rng.choice(list(SIDES))
        instances = [item.instance() for item in scene.objects]
        size = (scene.world.image_size, scene.world.image_size)
        facts = (
            image_facts(instances, size, axis) if kind == "image" else clear_pairs(instances, axis)
        )
        return rng.choice(facts) if facts else None


@dataclass(frozen=True, slots=True)
class Talk:
    """Writes one conversation about a scene.

    Args:
        kinds: share of conversations, detailed descriptions and reasoning, in any unit.
        conversation: topics of the first.
        detail: question and caption of the second.
        reasoning: topics of the third.
        sides: how sides are spoken of.
        sides_share: share of the turns that speak of sides.
        turns: questions of a conversation or reasoning at most; descriptions have one.
        descriptions: how often an object is named by description instead of category.

    Raises:
        ConfigError: an unknown kind of conversation, no turn, or shares outside 0 to 1.
    """

    kinds: Mapping[TalkKind, float]
    conversation: Topics
    detail: Listing
    reasoning: Topics
    sides: SideTalk
    sides_share: float = 0.1
    turns: int = 4
    descriptions: float = 0.5

    def __post_init__(self) -> None:
        _check_shares(self.kinds, get_args(TalkKind), "talk.kinds")
        if self.turns < 1:
            raise ConfigError(f"turns must be at least 1, got {self.turns}", where="talk.turns")
        for name in ("sides_share", "descriptions"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"{name} must be a share from 0 to 1, got {getattr(self, name)}",
                    where=f"talk.{name}",
                )

    def record(self, scene: Scene, rng: Random) -> dict[str, Any]:
        """One conversation in LLaVA's format, its kind under the key `kind`."""
        kind = rng.choices(list(self.kinds), list(self.kinds.values()))[0]
        if kind == "detail":
            turns = self._detail(scene, rng)
        else:
            topics = self.reasoning if kind == "reasoning" else self.conversation
            turns = self._turns(topics, scene, rng)
        (first, answer), *others = turns
        # As in LLaVA's data, the image comes before or after the first question
        first = f"<image>\n{first}" if rng.random() < 0.5 else f"{first}\n<image>"
        return {
            "id": scene.key,
            "image": f"{scene.key}.png",
            "kind": kind,
            "conversations": [
                {"from": speaker, "value": text}
                for turn in ((first, answer), *others)
                for speaker, text in zip(("human", "gpt"), turn, strict=True)
            ],
        }

    def _detail(self, scene: Scene, rng: Random) -> list[Turn]:
        question, caption = self.detail(scene, rng, self.descriptions)
        if rng.random() < self.sides_share:
            statement = self.sides.statement(scene, rng, self.descriptions)
            caption = f"{caption} {statement}" if statement else caption
        return [(question, caption)]

    def _turns(self, topics: Topics, scene: Scene, rng: Random) -> list[Turn]:
        turns: dict[str, str] = {}
        for _ in range(_TRIES * self.turns):
            if len(turns) == self.turns:
                break
            of_sides = rng.random() < self.sides_share
            draw = self.sides.turn if of_sides else topics.draw
            if turn := draw(scene, rng, self.descriptions):
                turns.setdefault(*turn)
        if not turns:
            raise ConfigError(
                f"no topic has a question about scene {scene.key}",
                where="talk",
                fix="add a topic that always has one, such as Presence",
            )
        return list(turns.items())


def _check_shares(shares: Mapping[Any, float], known: Sequence[str], where: str) -> None:
    if not set(shares) <= set(known) or not _is_shares(list(shares.values())):
        raise ConfigError(
            f"not shares of {', '.join(known)}: {dict(shares)}",
            where=where,
            fix="give numbers of at least 0, not all of them 0",
        )


def _is_shares(weights: Sequence[float]) -> bool:
    return all(weight >= 0 for weight in weights) and sum(weights) > 0
