"""Tiny LLaVA models of transformers, the inputs they take, and the same inputs as a batch of ours."""

import torch
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    MistralConfig,
    Qwen2Config,
    SiglipVisionConfig,
)

from zoo.data.batch import Example, pad
from zoo.data.encode import IGNORED_LABEL

IMAGE_TOKEN = 99
IMAGE_SIZE = 28
TEXT = {
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
VISION = {
    "hidden_size": 24,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": IMAGE_SIZE,
    "patch_size": 14,
}
TEXT_CLASSES = {"llama": LlamaConfig, "qwen2": Qwen2Config, "mistral": MistralConfig}
VISION_CLASSES = {"clip": CLIPVisionConfig, "siglip": SiglipVisionConfig}


def reference(text="llama", text_fields=None, vision="clip", vision_fields=None, **fields):
    """A model of transformers in which no parameter has a neutral value."""
    config = LlavaConfig(
        text_config=TEXT_CLASSES[text](**TEXT | (text_fields or {})),
        vision_config=VISION_CLASSES[vision](**VISION | (vision_fields or {})),
        image_token_id=IMAGE_TOKEN,
        **fields,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlavaForConditionalGeneration(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


# Text ids, and None for an image: several images in a row, none, one at the start, two side by side.
PROMPTS = ([1, None, 5, 6, None, 7, 8], [1, 11, 12, 13], [None, 21, 22, 23, 24, 25, 26], [1, 31, None, None, 32])


def examples(num_tokens, prompts=PROMPTS):
    generator = torch.Generator().manual_seed(3)
    made = []
    for row, prompt in enumerate(prompts):
        pieces = [[IMAGE_TOKEN] * num_tokens if token is None else [token] for token in prompt]
        ids = torch.tensor([token for piece in pieces for token in piece])
        num_images = prompt.count(None)
        frames = torch.randn(num_images, 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator) if num_images else None
        made.append(
            Example(
                sample_id=str(row),
                ids=ids,
                labels=torch.full_like(ids, IGNORED_LABEL),
                media_mask=ids == IMAGE_TOKEN,
                frames=frames,
                num_frames=(1,) * num_images,
                geometries=(),
                num_supervised=0,
            )
        )
    return made


@torch.no_grad()
def difference(model, expected, *, side="right", num_columns=None):
    """The largest difference of the logits of real tokens between a model of ours and one of transformers."""
    batch = pad(examples(model.encoder.num_tokens), side=side)
    theirs = expected(
        input_ids=batch.ids.masked_fill(batch.media_mask, expected.config.image_token_id),
        attention_mask=batch.attention_mask.long(),
        position_ids=batch.position_ids,
        pixel_values=batch.frames,
    ).logits
    ours = model(batch).logits
    real = batch.attention_mask
    assert theirs[real].std() > 0.3, "the reference is too tame to show anything"
    return (ours[real] - theirs[real][:, :num_columns]).abs().max().item()
