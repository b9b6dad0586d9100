"""Video files: written by the test with PyAV, read back, cut off and damaged; and the message where PyAV is missing."""

import sys

import numpy as np
import pytest

from zoo.data.frames import FrameSampling
from zoo.data.media import MAX_FRAMES, count_frames, image_size, load_frames
from zoo.data.sample import Medium
from zoo.errors import ZooError

NUM_FRAMES = 24
WIDTH, HEIGHT = 48, 32


def write(path, num_frames=NUM_FRAMES, **options):
    """A video in which frame i is grey of level 10 i."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(num_frames):
            array = np.full((HEIGHT, WIDTH, 3), 10 * index % 256, dtype=np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def video(source):
    return Medium(kind="video", source=source)


def numbers(source, **options):
    """Which frames came, by their grey level; the codec moves it by less than half the distance of two."""
    return [round(float(np.asarray(frame).mean()) / 10) for frame in load_frames(video(source), **options)]


def refusal(source, **options):
    with pytest.raises(ZooError) as caught:
        load_frames(video(source), sample_id="s3", **options)
    message = str(caught.value)
    assert "\n" not in message and "'s3'" in message
    return message


# Matroska's header does not count the frames, the others' do.
@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mkv"])
def test_frames_come_in_order_and_only_those_asked_for(suffix, tmp_path):
    path = write(tmp_path / f"clip{suffix}")
    frames = load_frames(video(path))
    assert len(frames) == count_frames(video(path)) == NUM_FRAMES
    assert all(frame.mode == "RGB" and frame.size == (WIDTH, HEIGHT) for frame in frames)
    assert numbers(path) == list(range(NUM_FRAMES))
    assert image_size(video(path)) == (WIDTH, HEIGHT)
    for kind in ("linspace", "arange", "segments"):
        sampling = FrameSampling(kind=kind, num_frames=5)
        assert numbers(path, frames=sampling) == sampling.indices(NUM_FRAMES)
        assert numbers(path.read_bytes(), frames=sampling) == sampling.indices(NUM_FRAMES)
        assert count_frames(video(path), frames=sampling) == 5


def test_a_short_video_follows_the_rule_of_its_sampling(tmp_path):
    path = write(tmp_path / "short.mp4", num_frames=2)
    assert numbers(path, frames=FrameSampling(kind="linspace", num_frames=4)) == [0, 0, 0, 1]
    assert numbers(path, frames=FrameSampling(kind="arange", num_frames=4)) == [0, 1]


def test_too_many_frames_for_a_method_without_sampling(tmp_path):
    path = write(tmp_path / "long.mp4", num_frames=MAX_FRAMES + 1)
    assert f"{MAX_FRAMES + 1} frames" in refusal(path) and "frames.num_frames" in refusal(path)
    assert len(load_frames(video(path), frames=FrameSampling(num_frames=3))) == 3


def test_broken_files_are_named(tmp_path):
    whole = write(tmp_path / "whole.mp4").read_bytes()
    early = write(tmp_path / "early.mp4", movflags="faststart").read_bytes()
    cases = {
        "empty.mp4": (b"", "damaged"),
        "zeros.mp4": (b"\0" * 100, "damaged"),
        "text.mp4": (b"<html>not found</html>", "damaged"),
        "half.mp4": (whole[: len(whole) // 2], "fetch it again"),
        # The header stands in front here: the file opens, and ends before its frames do.
        "nearly.mp4": (early[: len(early) * 9 // 10], f"of the {NUM_FRAMES} frames"),
        "header.mp4": (early[: len(early) // 2], "without frames"),
    }
    for name, (content, reason) in cases.items():
        (tmp_path / name).write_bytes(content)
        message = refusal(tmp_path / name)
        assert name in message and reason in message, message
    assert "no such file" in refusal(tmp_path / "gone.mp4")


def test_a_file_without_video_is_refused(tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "sound.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), dtype=np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    assert "no video stream" in refusal(tmp_path / "sound.mkv")


def test_a_missing_decoder_names_the_command(tmp_path, monkeypatch):
    (tmp_path / "clip.mp4").write_bytes(b"\0" * 100)
    monkeypatch.setitem(sys.modules, "av", None)
    message = refusal(tmp_path / "clip.mp4")
    assert "pip install av" in message and "folder of frames" in message
