"""transformers' image processors: our transforms on the same images. ``meta.json`` has each class and its arguments."""

from typing import Any

import numpy as np
import torch
from PIL import Image

from zoo.data import transforms
from zoo.data.tile_transform import TileTransform
from zoo.data.tiles import Tiles
from zoo.data.transforms import ImageTransform
from zoo.errors import ZooError
from zoo.verification.case import Case
from zoo.verification.registry import part
from zoo.verification.report import Report

# How each class brings an image to the square, and what it normalises with unless told.
_CLIP = {"mean": transforms.CLIP_MEAN, "std": transforms.CLIP_STD}
_CLASSES: dict[str, dict[str, Any]] = {
    "CLIPImageProcessor": {"resize": "crop", **_CLIP},
    "BlipImageProcessor": {"resize": "squash", **_CLIP},
    "SiglipImageProcessor": {"resize": "squash", "mean": transforms.SIGLIP_MEAN, "std": transforms.SIGLIP_STD},
    "IdeficsImageProcessor": {"resize": "squash", **_CLIP},
    "LlavaImageProcessor": {"resize": "crop", **_CLIP},
    "LlavaNextImageProcessor": {"resize": "crop", **_CLIP},
}
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}


def _transform(name: str, options: dict[str, Any]) -> ImageTransform | TileTransform:
    if name not in _CLASSES:
        raise ZooError(f"no transform of ours is known to be {name}; known: {', '.join(_CLASSES)}")
    fields = dict(_CLASSES[name])
    size, crop = options.get("size", {}), options.get("crop_size", {})
    side = crop.get("height") or size.get("height") or size.get("shortest_edge") or options.get("image_size")
    if side is None:
        raise ZooError(f"{name} is stored without size, crop_size or image_size; store its arguments")
    fields |= {
        ours: tuple(options[theirs])
        for theirs, ours in (("image_mean", "mean"), ("image_std", "std"))
        if theirs in options
    }
    if options.get("do_pad"):
        fields["resize"] = "pad"
    if fields["resize"] == "crop":
        fields["shortest_edge"] = size.get("shortest_edge")
    square = ImageTransform(size=side, interpolation=_FILTERS[options.get("resample", 3)], **fields)
    if "image_grid_pinpoints" not in options:
        return square
    grids = tuple((height // side, width // side) for height, width in options["image_grid_pinpoints"])
    return TileTransform(square=square, tiles=Tiles(grids=grids))


@part("transformers image processors")
def image_processors(case: Case, report: Report) -> None:
    """Inputs ``main/image.N``: (height, width, 3) uint8 RGB. Tiles that fill up to the most of a batch are zero."""
    images = {
        name.removeprefix("image."): Image.fromarray(np.asarray(pixels))
        for name, pixels in case.probes["main"].inputs.items()
    }
    for probe, (name, options) in case.meta["processors"].items():
        transform = _transform(name, options)
        for number, image in images.items():
            output = f"pixel_values.{number}"
            if isinstance(transform, TileTransform):
                stored = case.probes[probe].outputs[output]
                pixels = transform.apply(image)[0]
                filled = pixels.new_zeros(max(stored.shape[1], len(pixels)), *pixels.shape[1:])
                filled[: len(pixels)] = pixels
                report.compare(probe, output, filled[None])
                report.compare(probe, f"image_sizes.{number}", torch.tensor([[image.height, image.width]]))
            else:
                report.compare(probe, output, transform.apply(image)[0][None])
