"""Tiny models of transformers that cut images into tiles, and the same inputs for them and for ours."""

import torch
from llava_reference import IMAGE_SIZE, TEXT, TEXT_CLASSES, VISION, VISION_CLASSES
from transformers import (
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextVideoConfig,
    LlavaNextVideoForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
)

from zoo.data.batch import Example, pad
from zoo.data.encode import IGNORED_LABEL

IMAGE_TOKEN, VIDEO_TOKEN, NUM_FRAMES = 98, 99, 3
PINPOINTS = [[28, 56], [56, 28], [56, 56], [84, 28], [28, 84]]
MANY_PINPOINTS = [[28 * rows, 28 * columns] for rows in (1, 2, 3) for columns in (1, 2, 3)]
CLASSES = {
    "llava-next": (LlavaNextConfig, LlavaNextForConditionalGeneration, "clip", "llama"),
    "llava-next-video": (LlavaNextVideoConfig, LlavaNextVideoForConditionalGeneration, "clip", "llama"),
    "llava-onevision": (LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration, "siglip", "qwen2"),
}
# Sizes (width, height) of images, "video", or text ids: several images of different sizes in a row, none, at the start.
PROMPTS = (
    [1, (40, 30), 5, 6, (25, 70), 7, 8],
    [1, 11, 12, 13],
    [(90, 20), 21, 22, 23],
    [1, "video", 31, (20, 20), 32],
    [1, (28, 28), (56, 57), 41],
)


def reference(name, *, vision=None, text=None, text_type=None, **fields):
    """No parameter has a neutral value. Maps of the tower have 4 x 4 patches."""
    config_class, model_class, tower, language = CLASSES[name]
    fields = {"image_grid_pinpoints": MANY_PINPOINTS if name == "llava-onevision" else PINPOINTS} | fields
    if name != "llava-next":
        fields = {"video_token_index": VIDEO_TOKEN} | fields
    extra = {"vision_use_head": False} if tower == "siglip" else {}
    config = config_class(
        vision_config=VISION_CLASSES[tower](**VISION | {"patch_size": 7} | extra | (vision or {})),
        text_config=TEXT_CLASSES[text_type or language](**TEXT | (text or {})),
        image_token_index=IMAGE_TOKEN,
        **fields,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = model_class(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def examples(model, prompts=PROMPTS):
    """Our inputs; prompts with a video are left out where the model's method has no place for them."""
    generator = torch.Generator().manual_seed(3)
    tiles = model.encoder.tile_transform
    made = []
    for row, prompt in enumerate(prompts):
        if model.method.name == "llava-next" and "video" in prompt:
            continue
        ids, mask, counts, kinds, grids, frames = [], [], [], [], [], []
        for piece in prompt:
            if isinstance(piece, int):
                ids, mask = [*ids, piece], [*mask, False]
                continue
            kinds.append(piece == "video")
            grids.append(None if kinds[-1] else tiles.grid(piece))
            counts.append(NUM_FRAMES if kinds[-1] else grids[-1].num_frames)
            (length,) = model.num_media_tokens(counts[-1:], kinds[-1:], grids[-1:])
            ids += [VIDEO_TOKEN if kinds[-1] else IMAGE_TOKEN] * length
            mask += [True] * length
            frames.append(torch.randn(counts[-1], 3, IMAGE_SIZE, IMAGE_SIZE, generator=generator))
        made.append(
            Example(
                sample_id=str(row),
                ids=torch.tensor(ids),
                labels=torch.full((len(ids),), IGNORED_LABEL),
                media_mask=torch.tensor(mask),
                frames=torch.cat(frames) if frames else None,
                num_frames=tuple(counts),
                geometries=(),
                num_supervised=0,
                is_video=tuple(kinds),
                tile_grids=tuple(grids),
            )
        )
    return made


def inputs_of_reference(made, side):
    """Our batch, and the same rows for the class of transformers."""
    batch = pad(made, side=side)
    ids = torch.zeros_like(batch.ids)
    for row, example in enumerate(made):
        ids[row, batch.attention_mask[row]] = example.ids
    media = list(zip(batch.frames.split(batch.num_frames), batch.tile_grids))
    images = [(frames, grid) for frames, grid in media if grid is not None]
    videos = [frames for frames, grid in media if grid is None]
    inputs = {
        "input_ids": ids,
        "attention_mask": batch.attention_mask.long(),
        # Images with fewer tiles are padded with something that must not be seen.
        "pixel_values": torch.nn.utils.rnn.pad_sequence(
            [frames for frames, _ in images], batch_first=True, padding_value=9.0
        ),
        "image_sizes": torch.tensor([(grid.height, grid.width) for _, grid in images]),
    }
    return batch, inputs | ({"pixel_values_videos": torch.stack(videos)} if videos else {})


@torch.no_grad()
def difference(model, expected, side="right", prompts=PROMPTS):
    """The largest difference of the logits of real tokens."""
    batch, inputs = inputs_of_reference(examples(model, prompts), side)
    theirs = expected(**inputs, position_ids=batch.position_ids).logits
    real = batch.attention_mask
    assert theirs[real].std() > 0.3, "the reference is too tame to show anything"
    return (model(batch).logits[real] - theirs[real]).abs().max().item()
