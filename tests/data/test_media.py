"""Decoding: what loads, in which mode, and what each kind of broken input says."""

import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.data.frames import FrameSampling
from zoo.data.media import MAX_IMAGE_PIXELS, count_frames, image_size, load_frames
from zoo.data.sample import Medium
from zoo.errors import ZooError


def noise(height=12, width=17, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def image(source, **options):
    return load_frames(Medium(kind="image", source=source), **options)


def video(source, **options):
    return load_frames(Medium(kind="video", source=source), **options)


def refusal(function, *arguments, **options):
    with pytest.raises(ZooError) as caught:
        function(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def write_png_header(path, width, height):
    """A PNG that promises (width, height) and delivers a few bytes."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b""))


def test_image_sources_give_the_same_pixels(tmp_path):
    array = noise()
    path = tmp_path / "a.png"
    Image.fromarray(array).save(path)
    for source in (
        path,
        str(path),
        path.read_bytes(),
        Image.fromarray(array),
        array,
        torch.from_numpy(array),
        lambda: array,
        lambda: str(path),
    ):
        (loaded,) = image(source)
        assert loaded.mode == "RGB" and np.array_equal(np.asarray(loaded), array)
        assert image_size(Medium(kind="image", source=source)) == (17, 12)


def test_every_mode_becomes_rgb(tmp_path):
    colour = Image.fromarray(noise())
    for mode, suffix in (("L", "png"), ("P", "png"), ("RGBA", "png"), ("LA", "png"), ("1", "png"), ("CMYK", "jpg")):
        path = tmp_path / f"{mode}.{suffix}"
        converted = colour.convert(mode)
        converted.save(path)
        (loaded,) = image(path)
        assert loaded.mode == "RGB" and loaded.size == colour.size
        if suffix == "png":
            assert np.array_equal(np.asarray(loaded), np.asarray(converted.convert("RGB")))


def test_sixteen_bits_keep_their_upper_eight(tmp_path):
    values = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    for suffix in ("png", "tiff"):
        path = tmp_path / f"deep.{suffix}"
        Image.fromarray(values).save(path)
        (loaded,) = image(path)
        assert np.array_equal(np.asarray(loaded)[..., 0], np.arange(256).reshape(16, 16))


def test_exif_orientation_is_left_alone(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise()).save(tmp_path / "turned.jpg", exif=exif)
    assert image(tmp_path / "turned.jpg")[0].size == (17, 12)


def test_video_sources_give_the_same_frames(tmp_path):
    arrays = [noise(seed=index) for index in range(12)]
    folder = tmp_path / "frames"
    folder.mkdir()
    for index, array in enumerate(arrays):
        Image.fromarray(array).save(folder / f"frame_{index}.png")
    (folder / "notes.txt").write_text("not a frame")
    animation = tmp_path / "a.png"
    Image.fromarray(arrays[0]).save(
        animation, save_all=True, append_images=[Image.fromarray(array) for array in arrays[1:]]
    )
    paths = [f"frames/frame_{index}.png" for index in range(12)]
    for source in (folder, arrays, tuple(arrays), torch.from_numpy(np.stack(arrays)), np.stack(arrays), animation):
        frames = video(source)
        for frame, array in zip(frames, arrays, strict=True):
            assert np.array_equal(np.asarray(frame), array)
        assert image_size(Medium(kind="video", source=source)) == (17, 12)
        four = FrameSampling(kind="linspace", num_frames=4)
        for frame, index in zip(video(source, frames=four), (0, 3, 7, 11), strict=True):
            assert np.array_equal(np.asarray(frame), arrays[index])
        assert count_frames(Medium(kind="video", source=source)) == 12
        assert count_frames(Medium(kind="video", source=source), frames=four) == 4
    assert len(video(paths, root=tmp_path)) == 12
    assert len(video(arrays[0])) == 1
    assert len(video(lambda: arrays[:3])) == 3


def test_gif_frames(tmp_path):
    frames = [Image.new("RGB", (8, 6), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    loaded = video(tmp_path / "a.gif")
    assert [frame.getpixel((3, 3)) for frame in loaded] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert image(tmp_path / "a.gif")[0].getpixel((3, 3)) == (255, 0, 0)


def test_missing_and_broken_files_name_sample_and_path(tmp_path):
    whole = tmp_path / "whole.jpg"
    Image.fromarray(noise(200, 200)).save(whole)
    (tmp_path / "cut.jpg").write_bytes(whole.read_bytes()[:2000])
    (tmp_path / "text.jpg").write_text("<html>not found</html>")
    (tmp_path / "empty.jpg").write_bytes(b"")
    png = tmp_path / "whole.png"
    Image.fromarray(noise(200, 200)).save(png)
    (tmp_path / "cut.png").write_bytes(png.read_bytes()[:2000])
    (tmp_path / "flipped.png").write_bytes(png.read_bytes()[:300] + b"garbage" + png.read_bytes()[307:])
    expected = {
        "gone.jpg": "no such file",
        "cut.jpg": "truncated",
        "cut.png": "truncated",
        "flipped.png": "damaged",
        "text.jpg": "not an image",
        "empty.jpg": "not an image",
    }
    for name, reason in expected.items():
        for kind in ("image", "video"):
            medium = Medium(kind=kind, source=[name] if kind == "video" else name)
            message = refusal(load_frames, medium, root=tmp_path, sample_id="s7")
            assert "'s7'" in message and reason in message, message
            if kind == "image":
                assert name in message


def test_a_decompression_bomb_is_refused_from_its_header(tmp_path):
    write_png_header(tmp_path / "bomb.png", 40_000, 40_000)
    tracemalloc.start()
    begin = time.perf_counter()
    message = refusal(image, tmp_path / "bomb.png", sample_id="s1")
    seconds = time.perf_counter() - begin
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds < 1 and peak < 5_000_000
    assert "'s1'" in message and "bomb.png" in message and "pixels" in message
    assert "pixels" in refusal(video, [tmp_path / "bomb.png"])
    assert "pixels" in refusal(image_size, Medium(kind="image", source=tmp_path / "bomb.png"))


def test_the_limit_holds_without_pillows_own(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    write_png_header(tmp_path / "bomb.png", 40_000, 40_000)
    message = refusal(image, tmp_path / "bomb.png")
    assert "40000 x 40000" in message and str(MAX_IMAGE_PIXELS) in message


def test_paths_do_not_leave_the_root(tmp_path):
    inside = tmp_path / "media"
    elsewhere = tmp_path / "elsewhere"
    inside.mkdir()
    elsewhere.mkdir()
    Image.fromarray(noise()).save(elsewhere / "a.png")
    for path in ("../elsewhere/a.png", "x/../../elsewhere/a.png", str(elsewhere / "a.png")):
        assert "leads out of" in refusal(image, path, root=inside)
        assert "leads out of" in refusal(video, [path], root=inside)
    (inside / "linked").symlink_to(elsewhere)
    assert image("linked/a.png", root=inside)[0].size == (17, 12)
    assert image(str(inside / "linked" / "a.png"), root=inside)[0].size == (17, 12)


def test_other_refusals(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"\0" * 100)
    (tmp_path / "hollow").mkdir()
    assert "video medium" in refusal(image, tmp_path / "clip.mp4")
    assert "without frames" in refusal(video, tmp_path / "hollow")
    assert "without frames" in refusal(video, [])
    assert "without frames" in refusal(video, torch.zeros(0, 4, 4, 3, dtype=torch.uint8))
    assert "is a folder" in refusal(image, tmp_path / "hollow")
    assert "not fetched" in refusal(image, "https://example.org/a.png")
    assert "null byte" in refusal(image, "a\0b.png")
    assert "null byte" in refusal(image, "")
    assert "uint8" in refusal(image, torch.zeros(3, 4, 4))
    assert "uint8" in refusal(image, np.zeros((4, 4), dtype=np.uint8))
    assert "empty" in refusal(image, np.zeros((0, 4, 3), dtype=np.uint8))
    assert "a" * 20 in refusal(image, "a" * 5000 + ".png")


def test_frames_are_independent_of_their_source():
    source = Image.fromarray(noise())
    (loaded,) = image(source)
    loaded.putpixel((0, 0), (1, 2, 3))
    assert source.getpixel((0, 0)) == tuple(noise()[0, 0])
