"""Conversations as the text that a transformers model was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jinja2

from locvlm.chat import IMAGE, ChatFormat, Piece, Turn
from locvlm.dialects import Dialect
from locvlm.errors import ConfigError
from locvlm.predictors.places import written
from locvlm.types import Message, Question


@dataclass(frozen=True, slots=True)
class Prompting:
    """Writes prompts for one model.

    Args:
        processor: the model's own.
        dialect: how it writes locations.
        chat: how turns are written; None: as the processor's chat template has it.
        image_in_text: whether the text says where the image stands; false where the processor
            puts it there by itself (BLIP-2, InstructBLIP, Kosmos-2).

    Raises:
        ConfigError: there is neither a `chat` nor a chat template.
    """

    processor: Any
    dialect: Dialect
    chat: ChatFormat | None
    image_in_text: bool = True

    def __post_init__(self) -> None:
        templates = (getattr(owner, "chat_template", None) for owner in self._owners())
        if self.chat is None and not any(templates):
            raise ConfigError(
                "this model brings no chat template",
                where="predictor.chat",
                fix="take the predictor of its family, such as predictor=blip2, or give a plain "
                "prompt: +chat@predictor.chat=vicuna_v1",
            )

    @property
    def specials(self) -> set[str]:
        """Tokens that a user's words must not become."""
        tokens = {*self.processor.tokenizer.all_special_tokens, IMAGE}
        tokens.add(getattr(self.processor, "image_token", IMAGE))
        return {str(token) for token in tokens if len(str(token)) > 1}

    def prompt(self, question: Question) -> str:
        """The conversation up to where the model begins to speak."""
        return self._text(question, question.messages)

    def answer(self, question: Question, text: str) -> str:
        """What follows the prompt where the model says `text`, and what ends its turn."""
        said = Message("assistant", (text,))
        before, whole = self.prompt(question), self._text(question, [*question.messages, said])
        # A line break that opens answers is written by the processor (PaliGemma's).
        after = whole[len(before) :].lstrip("\n") if whole.startswith(before) else text
        return after.rstrip()

    def _text(self, question: Question, messages: Sequence[Message]) -> str:
        sample, specials = question.sample, self.specials
        texts = [written(self.dialect, message, sample, specials) for message in messages]
        n_images = int(sample.image is not None)
        if self.chat is not None:
            turns = [
                Turn(message.role, (Piece(text),))
                for message, text in zip(messages, texts, strict=True)
            ]
            return self.chat.render(turns, n_images if self.image_in_text else 0).text
        conversation = [
            {"role": message.role, "content": [{"type": "text", "text": text}]}
            for message, text in zip(messages, texts, strict=True)
        ]
        conversation[0]["content"][:0] = [{"type": "image"}] * n_images  # type: ignore[index]
        asked = messages[-1].role == "user"
        try:
            made = self.processor.apply_chat_template(conversation, add_generation_prompt=asked)
        except (jinja2.TemplateError, TypeError) as error:
            raise ConfigError(
                f"the model's chat template cannot write this conversation: {error}",
                where=question.key,
                fix="give a plain one, such as +chat@predictor.chat=vicuna_v1",
            ) from error
        return str(made)

    def _owners(self) -> tuple[Any, Any]:
        return self.processor, self.processor.tokenizer
