"""LLaVA in a tiny size, of transformers' own classes, saved as each of its writers does."""

import io
import json

import sentencepiece
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    SiglipVisionConfig,
)

from locvlm.models.llava import VICUNA
from tests.tiny import LLAMA, SENTENCES

SIDE, PATCH = 32, 8
TOWER = "openai/clip-vit-tiny-patch8-32"
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": SIDE,
    "patch_size": PATCH,
}
SQUARE = {"height": SIDE, "width": SIDE}
CROPPED = {"size": {"shortest_edge": SIDE}, "crop_size": SQUARE}


def llama_tokenizer():
    """As Llama's: words begin with a low line, digits stand alone, bytes serve the rest."""
    tokenizer = Tokenizer(BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    alphabet = sorted(
        {*"0123456789[]().,:?-▁", *map(chr, range(97, 123)), *map(chr, range(65, 91))}
    )
    trainer = BpeTrainer(
        vocab_size=420,
        special_tokens=["<unk>", "<s>", "</s>", *(f"<0x{n:02X}>" for n in range(256))],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES * 4, trainer)
    data = json.loads(tokenizer.to_str())
    # Bytes are no special tokens, or newlines would vanish from what is decoded.
    data["added_tokens"] = [t for t in data["added_tokens"] if not t["content"].startswith("<0x")]
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def make_llava(n_tokens, *, seed=0, text=LLAMA, vision=None, **options):
    """A model with random weights; its image token is the last of `n_tokens`."""
    torch.manual_seed(seed)
    config = LlavaConfig(
        vision_config=vision or CLIPVisionConfig(**VISION, initializer_range=0.2),
        text_config=LlamaConfig(**text, vocab_size=n_tokens),
        image_token_index=n_tokens - 1,
        image_seq_length=(SIDE // PATCH) ** 2,
        **options,
    )
    return LlavaForConditionalGeneration(config).eval()


def make_siglip_llava(n_tokens, **options):
    """As llava-hf's models with a SigLIP are; the pooling of theirs is not read."""
    model = make_llava(
        n_tokens,
        vision=SiglipVisionConfig(**VISION),
        vision_feature_select_strategy="full",
        **options,
    )
    for weight in model.model.vision_tower.parameters():
        if weight.ndim == 2:  # drawn so small that one would hardly see which block is read
            torch.nn.init.normal_(weight, std=0.2)
    return model


def save_transformers_5(model, folder, images=None):
    """As it saves now."""
    model.save_pretrained(folder)
    tokenizer = llama_tokenizer()
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    LlavaProcessor(
        image_processor=images or CLIPImageProcessor(**CROPPED),
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    ).save_pretrained(folder)


def save_transformers_4(model, folder):
    """As llava-hf's models lie on the hub: other names, and an image processor of its own."""
    save_transformers_5(model, folder)
    tensors = {
        name.replace("vision_tower.", "vision_tower.vision_model."): tensor
        for name, tensor in tensors_on_disk(model).items()
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    processor = json.loads((folder / "processor_config.json").read_text())
    images = processor.pop("image_processor")
    (folder / "processor_config.json").write_text(json.dumps(processor))
    (folder / "preprocessor_config.json").write_text(json.dumps(images))


def save_sentencepiece(folder):
    """A tokenizer as Vicuna and LLaVA's authors have it, without a tokenizer.json."""
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 20),
        model_writer=trained,
        vocab_size=400,
        model_type="bpe",
        byte_fallback=True,
        split_digits=True,
        hard_vocab_limit=False,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(trained.getvalue())
    specials = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    config = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "legacy": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(config | specials))
    (folder / "special_tokens_map.json").write_text(json.dumps(specials | {"pad_token": "<unk>"}))
    return sentencepiece.SentencePieceProcessor(model_proto=trained.getvalue())


def save_authors(model, folder, *, with_tower=False, aspect="pad", model_type="llava"):
    """As the LLaVA repository saves: a Llama with more in it, in pickles; CLIP lies elsewhere."""
    llama_tokenizer().save_pretrained(folder)
    vision, text = model.config.vision_config, model.config.text_config
    config = {key: value for key, value in text.to_dict().items() if value is not None}
    config |= {
        "architectures": ["LlavaLlamaForCausalLM"],
        "model_type": model_type,
        "mm_vision_tower": TOWER,
        "mm_projector_type": "mlp2x_gelu",
        "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "patch",
        "mm_use_im_start_end": False,
        "image_aspect_ratio": aspect,
    }
    (folder / "config.json").write_text(json.dumps(config))
    places = {
        "vision_tower.": "model.vision_tower.vision_tower.vision_model.",
        "multi_modal_projector.linear_1.": "model.mm_projector.0.",
        "multi_modal_projector.linear_2.": "model.mm_projector.2.",
        "language_model.model.": "model.",
        "language_model.lm_head.": "lm_head.",
    }
    tensors = {}
    for name, tensor in tensors_on_disk(model).items():
        theirs, ours = next((t, o) for t, o in places.items() if name.startswith(t))
        if with_tower or theirs != "vision_tower.":
            tensors[ours + name.removeprefix(theirs)] = tensor
    torch.save(tensors, folder / "pytorch_model.bin")
    save_tower(model, folder / TOWER.rpartition("/")[2], vision)


def save_tower(model, folder, vision):
    """CLIP with its text model, as OpenAI's lie on the hub."""
    clip = CLIPModel(CLIPConfig(vision_config=vision.to_dict(), text_config={"hidden_size": 32}))
    clip.vision_model.load_state_dict(model.model.vision_tower.state_dict())
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(clip.config.to_dict()))
    torch.save(clip.state_dict(), folder / "pytorch_model.bin")
    CLIPImageProcessor(**CROPPED).save_pretrained(folder)


def tensors_on_disk(model):
    """The names of transformers 5's files."""
    beginnings = {
        "model.language_model.": "language_model.model.",
        "lm_head.": "language_model.lm_head.",
        "model.": "",
    }
    found = {}
    for name, tensor in model.state_dict().items():
        memory, disk = next((m, d) for m, d in beginnings.items() if name.startswith(m))
        found[disk + name.removeprefix(memory)] = tensor.clone()
    return found


def vicuna_prompt(question):
    """The text of a conversation about an image, as LLaVA-1.5 reads it."""
    return f"{VICUNA.system}USER: <image>\n{question} ASSISTANT:"
