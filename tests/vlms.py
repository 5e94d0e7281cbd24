"""Other projects' visual LLMs in tiny sizes, of transformers' own classes, with random weights."""

import torch
from transformers import (
    BertTokenizerFast,
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessor,
    CLIPImageProcessor,
    GotOcr2ImageProcessor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
    InstructBlipProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    Kosmos2Config,
    Kosmos2ForConditionalGeneration,
    Kosmos2Processor,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    SiglipImageProcessor,
)

from tests.llava import llama_tokenizer, make_llava, save_transformers_5

SIDE, PATCH, WIDTH = 28, 14, 32
SQUARE = {"height": SIDE, "width": SIDE}
LAYERS = {"hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 2}
VISION = {**LAYERS, "num_attention_heads": 2, "image_size": SIDE, "patch_size": PATCH}
# As in Qwen2-VL's chat template, without its system text.
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
IDEFICS = (
    "{{ bos_token }}{% for m in messages %}{{ m['role'] | capitalize }}:{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>{% else %} {{ c['text'] }}{% endif %}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
QWEN = [
    *("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"),
    *("<|video_pad|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>"),
    "<|box_end|>",
]


def words(*specials, end="</s>"):
    """Llama's tokenizer with tokens of its own."""
    tokenizer = llama_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": list(specials)})
    tokenizer.add_special_tokens({"pad_token": "<pad>", "eos_token": end})
    return tokenizer


def ids(tokenizer, **tokens):
    return {name: tokenizer.convert_tokens_to_ids(token) for name, token in tokens.items()}


def ends(tokenizer):
    return {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def llava(folder):
    save_transformers_5(make_llava(421), folder)


def blip2(folder):
    tokenizer = words()
    images = BlipImageProcessor(size=SQUARE)
    processor = Blip2Processor(images, tokenizer, num_query_tokens=4)
    text = {
        "model_type": "opt",
        "hidden_size": WIDTH,
        "word_embed_proj_dim": WIDTH,
        "ffn_dim": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 256,
        "init_std": 0.5,
    }
    _blip(folder, Blip2Config, Blip2ForConditionalGeneration, processor, text, tokenizer)


def blip2_t5(folder):
    tokenizer = words()
    processor = Blip2Processor(BlipImageProcessor(size=SQUARE), tokenizer, num_query_tokens=4)
    _blip(folder, Blip2Config, Blip2ForConditionalGeneration, processor, _t5(), tokenizer)


def instructblip(folder):
    tokenizer = words()
    processor = InstructBlipProcessor(
        BlipImageProcessor(size=SQUARE), tokenizer, _bert(), num_query_tokens=4
    )
    text = {"model_type": "llama", **LAYERS, **HEADS, "initializer_range": 0.3}
    _blip(
        folder,
        InstructBlipConfig,
        InstructBlipForConditionalGeneration,
        processor,
        text,
        tokenizer,
    )


def kosmos2(folder):
    tokenizer = words()
    images = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=SQUARE)
    processor = Kosmos2Processor(images, tokenizer)  # adds its tags to the tokenizer
    config = Kosmos2Config(
        text_config={
            "vocab_size": len(tokenizer),
            "embed_dim": WIDTH,
            "layers": 2,
            "ffn_dim": 64,
            "attention_heads": 2,
            "max_position_embeddings": 512,
            "init_std": 0.3,
            **ends(tokenizer),
        },
        vision_config=VISION,
    )
    _save(folder, Kosmos2ForConditionalGeneration, config, processor)


def qwen2_vl(folder):
    tokenizer = words(*QWEN, end="<|im_end|>")
    images = Qwen2VLImageProcessor(min_pixels=28 * 28, max_pixels=4 * 28 * 28)
    processor = Qwen2VLProcessor(images, tokenizer, Qwen2VLVideoProcessor(), chat_template=CHATML)
    vision = {"depth": 2, "embed_dim": WIDTH, "hidden_size": WIDTH, "num_heads": 2, "mlp_ratio": 2}
    _qwen(folder, Qwen2VLConfig, Qwen2VLForConditionalGeneration, processor, vision)


def qwen2_5_vl(folder):
    tokenizer = words(*QWEN, end="<|im_end|>")
    images = Qwen2VLImageProcessor(min_pixels=28 * 28, max_pixels=4 * 28 * 28)
    processor = Qwen2_5_VLProcessor(
        images, tokenizer, Qwen2VLVideoProcessor(), chat_template=CHATML
    )
    vision = {
        "depth": 2,
        "hidden_size": WIDTH,
        "intermediate_size": 64,
        "num_heads": 2,
        "out_hidden_size": WIDTH,
        "fullatt_block_indexes": [1],
    }
    _qwen(folder, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, processor, vision)


def qwen3_vl(folder):
    tokenizer = words(*QWEN, end="<|im_end|>")
    images = Qwen2VLImageProcessor(min_pixels=32 * 32, max_pixels=4 * 32 * 32, patch_size=16)
    processor = Qwen3VLProcessor(images, tokenizer, Qwen3VLVideoProcessor(), chat_template=CHATML)
    vision = {
        "depth": 2,
        "hidden_size": WIDTH,
        "intermediate_size": 64,
        "num_heads": 2,
        "out_hidden_size": WIDTH,
        "num_position_embeddings": 16,
        "deepstack_visual_indexes": [0],
    }
    _qwen(folder, Qwen3VLConfig, Qwen3VLForConditionalGeneration, processor, vision)


def _qwen(folder, config, model, processor, vision):
    tokenizer = processor.tokenizer
    made = config(
        text_config={
            **LAYERS,
            **HEADS,
            "head_dim": 16,
            "vocab_size": len(tokenizer),
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [2, 3, 3],
            },
            **ends(tokenizer),
        },
        vision_config=vision,
        **ids(
            tokenizer,
            image_token_id="<|image_pad|>",
            video_token_id="<|video_pad|>",
            vision_start_token_id="<|vision_start|>",
            vision_end_token_id="<|vision_end|>",
        ),
    )
    _save(folder, model, made, processor)


def idefics3(folder):
    tokenizer = words(
        *("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"),
        end="<end_of_utterance>",
    )
    images = Idefics3ImageProcessor(
        size={"longest_edge": 2 * SIDE}, max_image_size={"longest_edge": SIDE}
    )
    processor = Idefics3Processor(images, tokenizer, image_seq_len=1, chat_template=IDEFICS)
    config = Idefics3Config(
        text_config={
            "model_type": "llama",
            **LAYERS,
            **HEADS,
            "vocab_size": len(tokenizer),
            **ends(tokenizer),
        },
        vision_config=VISION,
        **ids(tokenizer, image_token_id="<image>"),
        pad_token_id=tokenizer.pad_token_id,
    )
    _save(folder, Idefics3ForConditionalGeneration, config, processor)


def internvl(folder):
    marks = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words(*marks.values()).backend_tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens=marks,
    )
    processor = InternVLProcessor(
        GotOcr2ImageProcessor(size=SQUARE),
        tokenizer,
        InternVLVideoProcessor(size=SQUARE),
        image_seq_length=1,
        chat_template=IDEFICS.replace("<image>", "<IMG_CONTEXT>"),
    )
    config = InternVLConfig(
        vision_config=VISION | {"image_size": [SIDE, SIDE], "patch_size": [PATCH, PATCH]},
        text_config={
            "model_type": "qwen2",
            **LAYERS,
            **HEADS,
            "vocab_size": len(tokenizer),
            **ends(tokenizer),
        },
        **ids(tokenizer, image_token_id="<IMG_CONTEXT>"),
        image_seq_length=1,
    )
    _save(folder, InternVLForConditionalGeneration, config, processor)


def paligemma(folder):
    tokenizer = words()
    images = SiglipImageProcessor(size=SQUARE)
    images.image_seq_length = 4
    processor = PaliGemmaProcessor(images, tokenizer)
    config = PaliGemmaConfig(
        text_config={
            "model_type": "gemma",
            **LAYERS,
            **HEADS,
            "head_dim": 16,
            "vocab_size": len(tokenizer),
            **ends(tokenizer),
        },
        vision_config={"model_type": "siglip_vision_model", **VISION, "vision_use_head": False},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vocab_size=len(tokenizer),
        projection_dim=WIDTH,
        hidden_size=WIDTH,
    )
    _save(folder, PaliGemmaForConditionalGeneration, config, processor)


def _t5():
    return {
        "model_type": "t5",
        "d_model": WIDTH,
        "d_kv": 16,
        "d_ff": 64,
        "num_layers": 2,
        "num_decoder_layers": 2,
        "num_heads": 2,
        "initializer_factor": 1.0,
        "decoder_start_token_id": 2,
    }


def _bert():
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
    vocabulary += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]
    return BertTokenizerFast(vocab={word: n for n, word in enumerate(vocabulary)})


def _blip(folder, config, model, processor, text, tokenizer):
    made = config(
        vision_config={**VISION, "initializer_range": 0.3},
        qformer_config={
            **LAYERS,
            "num_attention_heads": 2,
            "encoder_hidden_size": WIDTH,
            "vocab_size": 100,
            "initializer_range": 0.3,
        },
        text_config={**text, "vocab_size": len(tokenizer), **ends(tokenizer)},
        num_query_tokens=4,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    _save(folder, model, made, processor)


def _save(folder, model, config, processor):
    torch.manual_seed(0)
    made = model(config).eval()
    for parameter in made.parameters():  # what random weights say differs more between prompts
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    made.save_pretrained(folder)
    processor.save_pretrained(folder)
