"""LLaVA's own code: prompts with the id -200 where an image goes, widened by its forward."""

import torch
from torch import Tensor

from zoo.data.batch import Example, pad
from zoo.data.encode import IGNORED_LABEL
from zoo.data.tiles import TileGrid
from zoo.errors import ZooError
from zoo.model import VLM
from zoo.verification.case import Case
from zoo.verification.registry import Arguments, Reading, whole_model

IMAGE_TOKEN_INDEX = -200


# Its generate is given embeddings alone and returns a start token before what it wrote.
@whole_model(
    "LLaVA Llava",
    embeddings="merged_embeds",
    attention_mask="merged_attention_mask",
    labels="merged_labels",
    soft_tokens=("image_features",),
    num_start_tokens=1,
)
def spliced_images(arguments: Arguments, model: VLM, case: Case) -> Reading:
    """Source: LLaVA, llava/model/llava_arch.py, ``prepare_inputs_labels_for_multimodal``.

    A row without placeholder uses up an image that it does not show.
    """
    ids, mask, labels = (arguments.get(name) for name in ("input_ids", "attention_mask", "labels"))
    if ids is None:
        raise ZooError("the probe has no input_ids; store it among the inputs")
    images, grids = _images(arguments, model)
    real = torch.ones_like(ids).bool() if mask is None else mask.bool()
    labels = torch.full_like(ids, IGNORED_LABEL) if labels is None else labels
    counts = model.num_media_tokens([len(frames) for frames in images], [False] * len(images), grids)
    examples, used, number = [], [], 0
    for row, (tokens, wanted, keep) in enumerate(zip(ids, labels, real)):
        tokens, wanted = tokens[keep], wanted[keep]
        is_placeholder = tokens == IMAGE_TOKEN_INDEX
        shown = list(range(number, number + int(is_placeholder.sum())))
        if shown and shown[-1] >= len(images):
            raise ZooError(f"row {row} shows image {shown[-1]}, but there are only {len(images)}; store them all")
        number += max(1, len(shown))
        used += shown
        repeats = torch.ones_like(tokens)
        repeats[is_placeholder] = torch.tensor([counts[image] for image in shown], dtype=torch.long)
        is_medium = is_placeholder.repeat_interleave(repeats)
        row_grids = tuple(grids[image] for image in shown)
        examples.append(
            Example(
                sample_id=f"row {row}",
                ids=tokens.repeat_interleave(repeats),
                labels=wanted.repeat_interleave(repeats).masked_fill(is_medium, IGNORED_LABEL),
                media_mask=is_medium,
                frames=torch.cat([images[image] for image in shown]) if shown else None,
                num_frames=tuple(len(images[image]) for image in shown),
                geometries=(),
                num_supervised=0,
                is_video=(False,) * len(shown),
                media_starts=tuple((repeats.cumsum(0) - repeats)[is_placeholder].tolist()),
                tile_grids=row_grids if any(row_grids) else (),
            )
        )
    # What is generated follows the last real token.
    side = "left" if arguments.probe.generates else case.config.get("tokenizer_padding_side", "right")
    return Reading(batch=pad(examples, side=side), media=used)


def _images(arguments: Arguments, model: VLM) -> tuple[list[Tensor], list[TileGrid | None]]:
    """Frames of each image. Version 1.6: (images, most tiles, 3, size, size) with ``image_sizes`` (width, height)."""
    images, sizes = arguments.get("images"), arguments.get("image_sizes")
    if images is None:
        return [], []
    if images.ndim == 4:
        return list(images[:, None]), [None] * len(images)
    transform = model.encoder.tile_transform
    if sizes is None or transform is None:
        raise ZooError("images in tiles need image_sizes among the inputs, and a checkpoint that cuts images")
    grids = [transform.grid((width, height)) for width, height in sizes.tolist()]
    return [frames[: grid.num_frames] for frames, grid in zip(images, grids)], list(grids)
