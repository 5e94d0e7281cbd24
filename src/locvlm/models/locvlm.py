"""LocVLM: encoder, adapter and language model in one network that knows nothing of Lightning."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from locvlm.errors import DataError
from locvlm.geometry import to_location
from locvlm.models.adapter import Adapter
from locvlm.models.attention import laid_out
from locvlm.models.dtypes import to_dtype
from locvlm.models.encoder import TimmEncoder, check_fits
from locvlm.models.generation import Sampling, asking, generate_ids, score_texts
from locvlm.models.inputs import ImageInput, MessagesInput, to_messages, to_sample
from locvlm.models.language import embeddings, init_numbers, next_token_loss
from locvlm.models.layout import Layout, check_places, find_layout
from locvlm.models.weights import keeping_computed
from locvlm.objectives import BOX_WORDS
from locvlm.processor import Processor, Prompt
from locvlm.templates import fill
from locvlm.tokenizers import number_tokens
from locvlm.types import Box, Message, Sample

# The first of the paper's prompts for each task (conf/prompts/paper.yaml).
LOCATE = "Where is the object described {category} located in image in terms of {repr}?"
DESCRIBE = "Describe the object located at {location}?"


class LocVLM(nn.Module):
    """A visual LLM that reads and writes coordinates as text.

    Images take places in the token sequence: each place holds one of an image's patch tokens,
    mapped by the adapter to the language model's width.

    Args:
        encoder: (N, 3, S, S) images to (N, P, E) patch tokens.
        adapter: (N, P, E) to (N, P, D).
        language_model: any causal LM of transformers, of width D.
        processor: makes its tokens and reads its text; needed to ask the model anything.

    Raises:
        ConfigError: the processor makes other images or image tokens than the encoder reads.
    """

    def __init__(
        self,
        encoder: TimmEncoder,
        adapter: Adapter,
        language_model: PreTrainedModel,
        processor: Processor,
    ):
        super().__init__()
        self.encoder = encoder
        self.adapter = adapter
        self.language_model = language_model
        self.processor = processor
        self.image_token_id = processor.image_token_id
        check_fits(processor, encoder)

    @classmethod
    def build(
        cls,
        encoder: TimmEncoder,
        adapter: Callable[[int, int], Adapter],
        language_model: Callable[..., PreTrainedModel],
        processor: Processor,
        smooth_numbers: int = 0,
    ) -> "LocVLM":
        """Makes the parts so that they fit each other; what `conf/model/` names.

        Args:
            encoder: as it is.
            adapter: makes the adapter from the widths of encoder and language model.
            language_model: makes the language model from the number of token ids, `vocab_size`.
            processor: whose tokens the language model shall know.
            smooth_numbers: integers up to this one begin alike where they are near each other, see
                `init_numbers`; for random weights only. 0: none do.
        """
        last = len(processor.tokenizer) - 1
        # The image token is a place, not a word: as the last id it needs no embedding.
        vocab_size = last if processor.image_token_id == last else last + 1
        language = language_model(vocab_size=vocab_size)
        if smooth_numbers:
            init_numbers(language, number_tokens(processor.tokenizer, smooth_numbers))
        width = embeddings(language).embedding_dim
        return cls(encoder, adapter(encoder.width, width), language, processor)

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, dtype: str | torch.dtype = "auto") -> "LocVLM":
        """The model in a folder that `save_pretrained` wrote, or a LLaVA, in evaluation mode.

        Args:
            folder: of either.
            dtype: of its weights: `bfloat16`, `float16` or `float32`; `auto`: as they are stored.

        Raises:
            CheckpointError: not such a folder, or one that does not fit.
            ConfigError: there is no such type.
        """
        from locvlm.models.checkpoint import load_model  # which imports this class

        kind = None if dtype == "auto" else to_dtype(dtype, "dtype")
        return load_model(folder).to(dtype=kind)

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes weights, architecture and processor; replaces an older folder as a whole."""
        from locvlm.models.checkpoint import save_model

        save_model(self, folder)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.parameters()).device

    def _apply(self, *args: Any, **kwargs: Any) -> "LocVLM":
        with keeping_computed(self.language_model):
            super()._apply(*args, **kwargs)
        return self

    def train(self, mode: bool = True) -> "LocVLM":
        """As in any module, but parts that learn nothing stay in evaluation mode."""
        super().train(mode)
        for part in self.children():
            if mode and not _learns(part):
                part.eval()
        return self

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        loss_weights: Tensor | None = None,
        pixel_values: Tensor | None = None,
        position_ids: Tensor | None = None,
        *,
        layout: Layout | None = None,
    ) -> Tensor:
        """The loss where there are labels, else the logits.

        Padding stands on the right, where causal attention never looks: no mask is built of it.

        Args:
            input_ids: (B, T); image tokens stand where images go.
            attention_mask: (B, T) bool, false on padding; only checked.
            labels: (B, T); IGNORE_INDEX where nothing is learned.
            loss_weights: (B, T) what each label counts in the loss; None: all the same.
            pixel_values: (N, 3, S, S), in the order of their places; None or N = 0: no images.
            position_ids: (B, T) for rows that hold several examples: counted from 0 in each of
                them, which keeps attention inside it; None: a row is one example.
            layout: of this batch, made before it went to its device; None: is made here.

        Returns:
            The loss, a scalar; without labels (B, T, V) logits, meaningless on padding.

        Raises:
            DataError: places and images do not match, or padding stands on the left.
        """
        parts = (attention_mask, labels, position_ids)
        layout = layout or find_layout(input_ids, self.image_token_id, *parts)
        inputs = self.embed(input_ids, pixel_values, layout)
        model = self.language_model
        if labels is not None:
            return next_token_loss(model, inputs, layout, labels, loss_weights, position_ids)
        with laid_out(model, layout, inputs) as known:
            read = {"inputs_embeds": inputs, "position_ids": position_ids, **known}
            logits: Tensor = model(**read, use_cache=False).logits
        return logits

    def embed(
        self, input_ids: Tensor, pixel_values: Tensor | None = None, layout: Layout | None = None
    ) -> Tensor:
        """(B, T) token ids to (B, T, D) embeddings, with images in their places.

        Raises:
            DataError: the number of image tokens is not that of the images' patches.
        """
        places = (layout or find_layout(input_ids, self.image_token_id)).images
        # The image token may lie outside the vocabulary, so it is never looked up.
        ids = input_ids.masked_fill(input_ids == self.image_token_id, 0)
        words: Tensor = embeddings(self.language_model)(ids)
        n_images = 0 if pixel_values is None else len(pixel_values)
        check_places(len(places), n_images, self.encoder.n_patches)
        if pixel_values is None or n_images == 0:
            return words
        images = self.encode_images(pixel_values).to(words.dtype)
        return words.flatten(0, 1).index_copy(0, places, images.flatten(0, 1)).view_as(words)

    def encode_images(self, pixel_values: Tensor) -> Tensor:
        """(N, 3, S, S) images, uint8 or normalized floats, to (N, P, D) image tokens."""
        return self.adapter(self.features(pixel_values))

    def features(self, pixel_values: Tensor) -> Tensor:
        """(N, 3, S, S) images, as in `encode_images`, to (N, P, E) patch features."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and _learns(self.encoder)):
            return self.encoder(pixel_values)

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        top_p: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> list[str]:
        """What the model says to each prompt; a batch says the same as its prompts one by one.

        Args:
            prompts: from `prompt` or `Processor.prompt`, of any lengths, with and without images.
            max_new_tokens: longer answers are cut.
            temperature: 0 takes the likeliest token each time; above 0 tokens are drawn.
            top_p: draws among the likeliest tokens that together have this probability.
            generator: source of the draws, on the model's device.
        """
        sampling = Sampling(temperature, top_p, generator)
        with asking(self):
            answers = generate_ids(self, prompts, max_new_tokens=max_new_tokens, sampling=sampling)
        return [self.processor.generated_text(ids) for ids in answers]

    def score(
        self, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """Log-likelihoods of whole answers, the end token included.

        Args:
            prompts: from `Processor.prompt`.
            candidates: the answers to compare, for each prompt.
        """
        if not any(candidates):
            return [[] for _ in prompts]
        with asking(self):
            return score_texts(self, prompts, candidates)

    def locate(self, image: ImageInput, name: str, *, prompt: str = LOCATE) -> list[Box]:
        """Where the named object is, in pixels of `image`; empty where the model sees none.

        Args:
            image: a path, a PIL image, an array, a tensor, or an encoded file's bytes.
            name: a category or a description, such as "red circle".
            prompt: template of the question, with {category} and perhaps {repr}.

        Raises:
            DataError: the image cannot be read, or the name is empty.
        """
        if not name.strip():
            raise DataError("there is no name to look for", where="name")
        sample = to_sample(image)
        assert sample.size is not None
        question = Message("user", fill(prompt, category=name, repr=BOX_WORDS))
        return self.processor.decode(self._answer(sample, [question]), sample.size).boxes

    def describe(
        self, image: ImageInput, location: Sequence[float], *, prompt: str = DESCRIBE
    ) -> str:
        """What is at a place.

        Args:
            image: as in `locate`.
            location: a `Box` or a `Point` in pixels of `image`; plain numbers do as well.
            prompt: template of the question, with {location}.

        Raises:
            DataError: the image cannot be read, or the location is none of it.
        """
        sample = to_sample(image)
        assert sample.size is not None
        question = Message("user", fill(prompt, location=to_location(location, sample.size)))
        return self._answer(sample, [question])

    def chat(self, image: ImageInput, messages: MessagesInput, *, max_new_tokens: int = 128) -> str:
        """The next answer in a conversation about an image; arguments and errors of `prompt`."""
        return self.generate([self.prompt(image, messages)], max_new_tokens=max_new_tokens)[0]

    def prompt(self, image: ImageInput, messages: MessagesInput) -> Prompt:
        """What `generate`, `score` and `stream` take: an image and what is asked about it.

        Args:
            image: as in `locate`.
            messages: a question, or the conversation so far, which ends with a question: `Message`s
                or `{"role": "user", "content": "What is this?"}`.

        Raises:
            DataError: the image cannot be read, or there is no question.
        """
        return self.processor.prompt(to_sample(image), to_messages(messages))

    def _answer(self, sample: Sample, messages: Sequence[Message]) -> str:
        return self.generate([self.processor.prompt(sample, messages)])[0]


def _learns(part: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in part.parameters())
