"""transformers' classes: the arguments of their forwards, read as our batch."""

from collections.abc import Iterable

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.factory import build_model
from zoo.model import VLM
from zoo.verification.case import Case
from zoo.verification.inputs import MediaInput, make_batch
from zoo.verification.registry import Arguments, Loaded, Reading, whole_model
from zoo.weights import convert, detect
from zoo.weights.files import open_weights
from zoo.weights.fill import fill


def text_arguments(arguments: Arguments) -> dict[str, Tensor | None]:
    """What all classes share: ids, which of them are real, labels."""
    return {
        "ids": arguments.require("input_ids"),
        "attention_mask": arguments.get("attention_mask"),
        "labels": arguments.get("labels"),
    }


def placeholders(case: Case, ids: Tensor, name: str) -> Tensor:
    """Where the placeholder id stands that the config gives under ``name`` (image_token_id, video_token_id)."""
    number = getattr(case.parsed_config, name, None)
    if number is None:
        raise ZooError(f"{case.folder / 'config.json'} has no {name}; write it there")
    return ids == number


def media_inputs(
    arguments: Arguments, case: Case, ids: Tensor, kinds: Iterable[tuple[str, str, bool]]
) -> list[MediaInput]:
    """Media of classes that mark their places by ids; ``kinds``: (argument, name of the id in the config, is a video).

    Pixels are (images, 3, size, size) or (videos, frames, 3, size, size).
    """
    found = []
    for argument, token, is_video in kinds:
        pixels = arguments.get(argument)
        if pixels is not None:
            frames = list(pixels if is_video else pixels[:, None])
            found.append(MediaInput(frames=frames, mask=placeholders(case, ids, token), is_video=is_video))
    return found


@whole_model("LlavaForConditionalGeneration", "VipLlavaForConditionalGeneration", "Blip2ForConditionalGeneration")
def images(arguments: Arguments, model: VLM, case: Case) -> Reading:
    text = text_arguments(arguments)
    media = media_inputs(arguments, case, text["ids"], [("pixel_values", "image_token_id", False)])
    return Reading(batch=make_batch(model, media=media, **text))


def _load_florence(case: Case) -> Loaded:
    """Its config.json says nothing of the images' size; the stored ones do."""
    pixels = [inputs["pixel_values"] for inputs in (x.inputs for x in case.probes.values()) if "pixel_values" in inputs]
    if not pixels:
        raise ZooError(f"{case.folder / 'inputs.safetensors'} has no pixel_values, which say the images' size; add it")
    weights = open_weights(case.folder)
    layout = detect(case.config, weights.keys(), where=str(case.folder))
    vision = {**case.config["vision_config"], "image_size": pixels[0].shape[-1]}
    model = build_model(layout.method_from_config({**case.config, "vision_config": vision}, case.folder))
    state = convert(weights, layout, "to_canonical")
    fill(model, state, device="cpu", zero=layout.zero_keys(case.config), spelling={}, where=str(case.folder))
    return Loaded(model=model, layout=layout)


@whole_model("Florence2ForConditionalGeneration", load=_load_florence)
def images_of_any_size(arguments: Arguments, model: VLM, case: Case) -> Reading:
    return images(arguments, model, case)


@whole_model("PaliGemmaForConditionalGeneration")
def prefixes(arguments: Arguments, model: VLM, case: Case) -> Reading:
    """``token_type_ids`` (rows, length): 0 is prefix."""
    text = text_arguments(arguments)
    media = media_inputs(arguments, case, text["ids"], [("pixel_values", "image_token_id", False)])
    kinds = arguments.require("token_type_ids")
    return Reading(batch=make_batch(model, media=media, prefix_mask=kinds == 0, **text))


@whole_model("VideoLlavaForConditionalGeneration")
def images_and_videos(arguments: Arguments, model: VLM, case: Case) -> Reading:
    text = text_arguments(arguments)
    kinds = [("pixel_values_images", "image_token_id", False), ("pixel_values_videos", "video_token_id", True)]
    return Reading(batch=make_batch(model, media=media_inputs(arguments, case, text["ids"], kinds), **text))


def tiled_images(arguments: Arguments, model: VLM, case: Case, ids: Tensor) -> list[MediaInput]:
    """Images as (images, most tiles, 3, size, size), padded with tiles that nobody sees; ``image_sizes`` (height,
    width) of the originals. With ``batch_num_images``, images of rows with several of them are not cut.
    """
    pixels = arguments.get("pixel_values")
    sizes, per_row = arguments.get("image_sizes"), arguments.get("batch_num_images")
    if pixels is None:
        return []
    if sizes is None:
        raise ZooError("the probe has pixel_values without image_sizes; store it among the inputs")
    is_cut = [True] * len(sizes) if per_row is None else [n == 1 for n in per_row.tolist() for _ in range(n)]
    transform = model.encoder.tile_transform
    grids = [transform.grid((width, height)) if cut else None for (height, width), cut in zip(sizes.tolist(), is_cut)]
    counts = [1 if grid is None else grid.num_frames for grid in grids]
    # Without padding, the tiles of all images follow one another.
    groups = list(pixels.split(counts)) if pixels.ndim == 4 else [x[:count] for x, count in zip(pixels, counts)]
    return [MediaInput(frames=groups, mask=placeholders(case, ids, "image_token_id"), tile_grids=grids)]


# What their projectors give are patches of tiles, not yet arranged; frames of NeXT-Video are pooled before.
@whole_model("LlavaNextForConditionalGeneration", soft_tokens=())
@whole_model(
    "LlavaNextVideoForConditionalGeneration", soft_tokens=(), video_tokens=("video_hidden_states", "projected")
)
@whole_model("LlavaOnevisionForConditionalGeneration", soft_tokens=())
def tiles_and_videos(arguments: Arguments, model: VLM, case: Case) -> Reading:
    text = text_arguments(arguments)
    kinds = [("pixel_values_videos", "video_token_id", True)]
    media = tiled_images(arguments, model, case, text["ids"]) + media_inputs(arguments, case, text["ids"], kinds)
    return Reading(batch=make_batch(model, media=media, **text))


def _instruction(arguments: Arguments) -> dict[str, Tensor]:
    ids = arguments.require("qformer_input_ids")
    mask = arguments.get("qformer_attention_mask")
    return {"instruction_ids": ids, "instruction_mask": torch.ones_like(ids).bool() if mask is None else mask.bool()}


@whole_model("InstructBlipForConditionalGeneration")
def instructed_images(arguments: Arguments, model: VLM, case: Case) -> Reading:
    text = text_arguments(arguments)
    media = media_inputs(arguments, case, text["ids"], [("pixel_values", "image_token_id", False)])
    return Reading(batch=make_batch(model, media=media, **text, **_instruction(arguments)))


@whole_model("InstructBlipVideoForConditionalGeneration")
def instructed_videos(arguments: Arguments, model: VLM, case: Case) -> Reading:
    text = text_arguments(arguments)
    media = media_inputs(arguments, case, text["ids"], [("pixel_values", "video_token_id", True)])
    return Reading(batch=make_batch(model, media=media, **text, **_instruction(arguments)))


@whole_model("Kosmos2ForConditionalGeneration", soft_tokens=("projected", "image_embeds"))
def marked_places(arguments: Arguments, model: VLM, case: Case) -> Reading:
    text = text_arguments(arguments)
    media = []
    pixels, places = arguments.get("pixel_values"), arguments.get("image_embeds_position_mask")
    if pixels is not None:
        if places is None:
            raise ZooError("the probe has pixel_values without image_embeds_position_mask; store it among the inputs")
        media = [MediaInput(frames=list(pixels[:, None]), mask=places.bool())]
    return Reading(batch=make_batch(model, media=media, **text))


@whole_model("IdeficsForVisionText2Text", soft_tokens=("resampled", "image_hidden_states"), image_tokens=())
def images_beside_text(arguments: Arguments, model: VLM, case: Case) -> Reading:
    """``pixel_values`` (rows, images, 3, size, size); ``image_attention_mask`` (rows, length, images).

    Every position of ours reads one image, as the class's processor writes the mask.
    """
    text = text_arguments(arguments)
    pixels, seen = arguments.require("pixel_values"), arguments.require("image_attention_mask").bool()
    real = torch.ones_like(seen[..., 0]) if text["attention_mask"] is None else text["attention_mask"].bool()
    if (seen.sum(-1)[real] > 1).any():
        raise ZooError("image_attention_mask lets a position see several images; our model reads the newest one only")
    rows, num_images = pixels.shape[:2]
    # Images count through the batch, those that fill up a row with fewer included.
    numbers = 1 + torch.arange(rows * num_images).view(rows, 1, num_images)
    media = {
        "frames": pixels.flatten(0, 1),
        "num_frames": (1,) * (rows * num_images),
        "is_video": (False,) * (rows * num_images),
        "media_seen": (numbers * seen).amax(-1),
    }
    return Reading(batch=make_batch(model, **text, **media))
