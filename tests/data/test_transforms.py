"""Preprocessing equals transformers' Pillow processors, and boxes follow the pixels."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from PIL import Image
from transformers import BitImageProcessorPil, BlipImageProcessorPil, CLIPImageProcessorPil, SiglipImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from zoo.data import transforms
from zoo.data.sample import Box
from zoo.data.transforms import ImageTransform
from zoo.errors import ZooError

SIDES = st.one_of(st.integers(1, 90), st.sampled_from([1, 2, 3, 28, 336]))
SIZES = st.sampled_from([14, 27, 28, 33])


def picture(width, height, mode="RGB", seed=0):
    array = np.random.default_rng(seed + 7 * width + height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(array).convert(mode)


def square(size):
    return {"height": size, "width": size}


def processors(size):
    """(ours, theirs) pairs for one frame size."""
    clip = {"mean": transforms.CLIP_MEAN, "std": transforms.CLIP_STD}
    siglip = {"mean": transforms.SIGLIP_MEAN, "std": transforms.SIGLIP_STD}
    imagenet = {"mean": transforms.IMAGENET_MEAN, "std": transforms.IMAGENET_STD}
    edge = {"size": {"shortest_edge": size}, "crop_size": square(size)}
    wide = {"size": {"shortest_edge": size + 5}, "crop_size": square(size)}
    return {
        "clip": (ImageTransform(size=size, resize="crop", **clip), CLIPImageProcessorPil(**edge)),
        "blip": (ImageTransform(size=size, resize="squash", **clip), BlipImageProcessorPil(size=square(size))),
        "siglip": (ImageTransform(size=size, resize="squash", **siglip), SiglipImageProcessorPil(size=square(size))),
        "llava": (ImageTransform(size=size, resize="pad", **clip), LlavaImageProcessorPil(do_pad=True, **edge)),
        "dinov2": (
            ImageTransform(size=size, resize="crop", shortest_edge=size + 5, **imagenet),
            BitImageProcessorPil(image_mean=imagenet["mean"], image_std=imagenet["std"], **wide),
        ),
        "bilinear": (
            ImageTransform(size=size, resize="crop", interpolation="bilinear", **clip),
            CLIPImageProcessorPil(resample=Image.Resampling.BILINEAR, **edge),
        ),
    }


@pytest.mark.parametrize("name", ["clip", "blip", "siglip", "llava", "dinov2", "bilinear"])
@settings(max_examples=40, deadline=None)
@given(width=SIDES, height=SIDES, size=SIZES, mode=st.sampled_from(["RGB", "RGB", "L", "P", "RGBA"]))
def test_pixels_equal_transformers_to_the_bit(name, width, height, size, mode):
    ours, theirs = processors(size)[name]
    image = picture(width, height, mode)
    pixels, _ = ours.apply(image)
    expected = theirs(image.convert("RGB"), return_tensors="pt")["pixel_values"][0]
    assert pixels.dtype == torch.float32 and pixels.shape == (3, size, size) and pixels.is_contiguous()
    assert torch.equal(pixels, expected)


@pytest.mark.parametrize("name", ["clip", "blip", "llava"])
@pytest.mark.parametrize("shape", [(640, 480), (333, 500), (1, 1), (1, 40), (300, 3)])
def test_pixels_equal_transformers_at_published_size(name, shape):
    ours, theirs = processors(336)[name]
    image = picture(*shape)
    assert torch.equal(ours.apply(image)[0], theirs(image, return_tensors="pt")["pixel_values"][0])


def test_padding_colour_and_place():
    image = Image.new("RGB", (4, 1), (255, 255, 255))
    pixels, _ = ImageTransform(size=4, resize="pad", interpolation="nearest").apply(image)
    mean, std = (np.array(value)[:, None, None] for value in (transforms.CLIP_MEAN, transforms.CLIP_STD))
    levels = np.rint((pixels.numpy() * std + mean) * 255).astype(int)
    # Three rows of padding: one above, two below.
    assert levels[:, 1].tolist() == [[255] * 4] * 3
    for row in (0, 2, 3):
        assert levels[:, row].tolist() == [[122] * 4, [116] * 4, [104] * 4]
    green = ImageTransform(size=4, resize="pad", interpolation="nearest", pad_colour=(0, 255, 0)).apply(image)[0]
    assert np.rint((green.numpy() * std + mean) * 255)[:, 0, 0].astype(int).tolist() == [0, 255, 0]


@pytest.mark.parametrize("resize", ["crop", "squash", "pad"])
@settings(max_examples=60, deadline=None)
@given(data=st.data(), width=SIDES, height=SIDES, size=SIZES)
def test_boxes_go_there_and_back(resize, data, width, height, size):
    geometry = ImageTransform(size=size, resize=resize).geometry((width, height))
    # Restricted to what is seen: a crop cannot give back what it cut off.
    seen = geometry.to_original(Box(x0=0, y0=0, x1=size, y1=size))
    assert 0 <= seen.x0 <= seen.x1 <= width and 0 <= seen.y0 <= seen.y1 <= height
    if resize != "crop":
        assert (seen.x0, seen.y0) == (0, 0)
        assert (seen.x1, seen.y1) == (pytest.approx(width), pytest.approx(height))
    xs = sorted(data.draw(st.lists(st.floats(seen.x0, seen.x1), min_size=2, max_size=2)))
    ys = sorted(data.draw(st.lists(st.floats(seen.y0, seen.y1), min_size=2, max_size=2)))
    box = Box(x0=xs[0], y0=ys[0], x1=xs[1], y1=ys[1], medium=2)
    framed = geometry.to_frame(box)
    assert framed.medium == 2
    assert 0 <= framed.x0 <= framed.x1 <= size and 0 <= framed.y0 <= framed.y1 <= size
    back = geometry.to_original(framed)
    for name in ("x0", "y0", "x1", "y1"):
        assert getattr(back, name) == pytest.approx(getattr(box, name), abs=1e-6 * max(width, height))


@pytest.mark.parametrize("resize", ["crop", "squash", "pad"])
@pytest.mark.parametrize("shape", [(200, 120), (120, 200), (150, 150)])
def test_boxes_follow_the_pixels(resize, shape):
    box = Box(x0=70, y0=50, x1=100, y1=80)
    image = Image.new("RGB", shape, (0, 0, 0))
    image.paste((255, 255, 255), (70, 50, 100, 80))
    pixels, geometry = ImageTransform(size=112, resize=resize, pad_colour=(0, 0, 0)).apply(image)
    bright = pixels[0] > (0.5 - transforms.CLIP_MEAN[0]) / transforms.CLIP_STD[0]
    rows, columns = torch.nonzero(bright, as_tuple=True)
    framed = geometry.to_frame(box)
    found = (columns.min().item(), rows.min().item(), columns.max().item() + 1, rows.max().item() + 1)
    assert found == pytest.approx((framed.x0, framed.y0, framed.x1, framed.y1), abs=1)


def test_a_crop_clips_boxes_at_its_edge():
    geometry = ImageTransform(size=100, resize="crop").geometry((200, 100))
    assert geometry.to_frame(Box(x0=0, y0=0, x1=100, y1=50)) == Box(x0=0, y0=0, x1=50, y1=50)
    lost = geometry.to_frame(Box(x0=0, y0=0, x1=40, y1=50))
    assert lost.x0 == lost.x1 == 0


@pytest.mark.parametrize("resize", ["crop", "pad"])
def test_extreme_strips_stay_small_in_memory(resize, monkeypatch):
    # A smooth picture away from black and white: on noise Pillow clips between its two passes, in an order that depends
    # on the sizes, and the two ways differ in single pixels.
    wave = 128 + 60 * np.sin(np.arange(900)[:, None, None] / 40 + np.arange(3)[None, :, None] + np.arange(3))
    image = Image.fromarray(wave.astype(np.uint8))
    whole, geometry = ImageTransform(size=28, resize=resize).apply(image)
    monkeypatch.setattr(transforms, "MAX_IMAGE_PIXELS", 20_000)
    strip, same_geometry = ImageTransform(size=28, resize=resize).apply(image)
    assert same_geometry == geometry
    level = 1 / 255 / min(transforms.CLIP_STD)
    if resize == "crop":
        assert (strip - whole).abs().max() <= 1.01 * level
    else:
        # Shrunk before padding, the strip (a tenth of a pixel wide in the frame) is one pixel wide at least.
        assert strip.shape == whole.shape and (strip - whole).abs().mean() <= 2 * level


def test_a_strip_that_would_take_gigabytes():
    pixels, _ = ImageTransform(size=336, resize="crop").apply(Image.new("RGB", (1, 30_000), (9, 9, 9)))
    assert pixels.shape == (3, 336, 336)


def test_bad_settings_are_named():
    for options, word in (
        ({"size": 0}, "size 0"),
        ({"resize": "crp"}, "'crop'"),
        ({"interpolation": "bicubik"}, "'bicubic'"),
        ({"mean": (0.5,)}, "mean"),
        ({"std": (1.0, 0.0, 1.0)}, "std"),
        ({"pad_colour": (1, 2)}, "pad_colour"),
        ({"shortest_edge": 20}, "shortest_edge"),
        ({"resize": "pad", "shortest_edge": 30}, "shortest_edge"),
    ):
        with pytest.raises(ZooError, match=word):
            ImageTransform(**{"size": 28, **options})


def test_the_config_merges_as_a_structured_config():
    merged = OmegaConf.merge(OmegaConf.structured(ImageTransform), {"size": 28, "mean": [0.1, 0.2, 0.3]})
    assert OmegaConf.to_object(merged) == ImageTransform(size=28, mean=(0.1, 0.2, 0.3))
