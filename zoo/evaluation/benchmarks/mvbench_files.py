"""The files of MVBench's tasks, and the part of a video that a question is about."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from zoo.data.media import FRAME_SUFFIXES
from zoo.data.video_file import frame_rate, read_frames
from zoo.errors import ZooError

# More than any method looks at; a minute of video would fill the memory.
MAX_FRAMES = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """``frames_per_second``: videos are folders of frames at this rate, else files."""

    name: str
    file: str
    videos: str
    has_bounds: bool = False
    frames_per_second: float | None = None


def _task(name: str, videos: str, *, has_bounds: bool = False, rate: float | None = None) -> Task:
    file = f"{name.lower().replace(' ', '_').replace('-', '_')}.json"
    return Task(name=name, file=file, videos=videos, has_bounds=has_bounds, frames_per_second=rate)


# Source: OpenGVLab/Ask-Anything, video_chat2/mvbench.ipynb.
TASKS = (
    _task("Action Sequence", "star/Charades_v1_480/", has_bounds=True),
    _task("Action Prediction", "star/Charades_v1_480/", has_bounds=True),
    _task("Action Antonym", "ssv2_video/"),
    _task("Fine-grained Action", "Moments_in_Time_Raw/videos/"),
    _task("Unexpected Action", "FunQA_test/test/"),
    _task("Object Existence", "clevrer/video_validation/"),
    _task("Object Interaction", "star/Charades_v1_480/", has_bounds=True),
    _task("Object Shuffle", "perception/videos/"),
    _task("Moving Direction", "clevrer/video_validation/"),
    _task("Action Localization", "sta/sta_video/", has_bounds=True),
    _task("Scene Transition", "scene_qa/video/"),
    _task("Action Count", "perception/videos/"),
    _task("Moving Count", "clevrer/video_validation/"),
    _task("Moving Attribute", "clevrer/video_validation/"),
    _task("State Change", "perception/videos/"),
    _task("Fine-grained Pose", "nturgbd/"),
    _task("Character Order", "perception/videos/"),
    _task("Egocentric Navigation", "vlnqa/"),
    _task("Episodic Reasoning", "tvqa/frames_fps3_hq/", has_bounds=True, rate=3.0),
    _task("Counterfactual Inference", "clevrer/video_validation/"),
)


def clip(path: Path, start: float, end: float, rate: float | None, where: str) -> list[Path] | list[Image.Image]:
    """The frames between two times in seconds: files of a folder with ``rate`` frames a second, or of a video file.

    Raises:
        ZooError: the part holds no frame.
    """
    if rate is None and not path.is_dir():
        seconds = frame_rate(path, where=where)

        def choose(num_frames: int) -> list[int]:
            last = min(int(end * seconds), num_frames - 1)
            first = min(int(start * seconds), last)
            return np.linspace(first, last, min(MAX_FRAMES, last - first + 1), dtype=int).tolist()

        return read_frames(path, choose, where=where)
    if rate is None:
        raise ZooError(f"{where}: {path} is a folder of frames without a rate; a part in seconds needs the video file")
    frames = sorted(file for file in path.iterdir() if file.suffix.lower() in FRAME_SUFFIXES)
    chosen = frames[int(start * rate) : int(end * rate) + 1]
    if not chosen:
        raise ZooError(f"{where}: {path} has {len(frames)} frames at {rate:g} a second, none from {start} to {end} s")
    return chosen
