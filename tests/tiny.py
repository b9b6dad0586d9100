"""Tiny networks, a tokenizer and samples for tests: seeded, of every shape, built in milliseconds."""

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from zoo.data.sample import Medium, Message, Sample
from zoo.data.templates import TEMPLATES

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 60, 220), "white": (240, 240, 240)}
IMAGE_SIZE = 32


def fill(model, std, seed=0):
    """Move every parameter off its initial value, biases and norms too: a constant hides a mistake."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * std)
    return model


def train_tokenizer(vocabulary=420):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    words = " ".join(f"The square is {colour}. What colour is the square?" for colour in COLOURS)
    turns = "USER: ASSISTANT: ### Human: ### Assistant:"
    tokenizer.train_from_iterator([words, turns, *(t.system for t in TEMPLATES.values())] * 4, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def llama(num_rows, **fields):
    config = LlamaConfig(
        **{
            "vocab_size": num_rows,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 1024,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 0,
        }
        | fields
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return fill(LlamaForCausalLM(config), 0.02)


def t5(num_rows):
    config = T5Config(
        vocab_size=num_rows,
        d_model=32,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        tie_word_embeddings=False,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = T5ForConditionalGeneration(config)
    with torch.no_grad():
        # T5 draws embedding and head with a deviation of 1: logits beyond ten, in which rounding shows.
        for matrix in (model.shared.weight, model.lm_head.weight):
            matrix.mul_(0.3)
    return fill(model, 0.02)


def clip():
    """A CLIP tower of three blocks that makes 16 patches of an image."""
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=IMAGE_SIZE,
        patch_size=8,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return fill(CLIPVisionModel(config), 0.05)


def picture(colour, size=(40, 28), seed=0):
    """A coloured image with some noise, so that no two are the same."""
    noise = np.random.default_rng(seed).integers(-25, 25, (size[1], size[0], 3))
    return Image.fromarray((np.array(COLOURS[colour]) + noise).clip(0, 255).astype(np.uint8))


def image(colour, seed=0, size=(40, 28)):
    return Medium(kind="image", source=picture(colour, size, seed), name=f"{colour}{seed}")


def conversation(id, turns, media=(), boxes=()):
    messages = []
    for question, answer in turns:
        messages += [Message(role="user", content=question), Message(role="assistant", content=answer)]
    return Sample(id=id, messages=tuple(messages), media=tuple(media), boxes=tuple(boxes))
