"""Which frames of a video a method looks at: the published rules, as functions of the number of frames alone."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from zoo.errors import ZooError, nearest


@dataclass(frozen=True, kw_only=True)
class FrameSampling:
    """At most ``num_frames`` of a video's frames, chosen by the rule ``kind``.

    - ``linspace`` (Video-LLaVA, LLaVA-NeXT-Video): evenly spread with the first and the last one among them. A shorter
      video repeats frames, so there are always ``num_frames``.
    - ``arange`` (Video-LLaMA, ``load_video`` with ``sampling="uniform"``): the first frame of each of ``num_frames``
      equal parts. A shorter video gives all of its frames.
    - ``segments`` (Video-ChatGPT, ``get_seq_frames``): the middle of each of ``num_frames`` equal parts, whose bounds
      are rounded half to even. A shorter video gives as many frames as it has, some of them twice, as in the published
      code: the parts span one frame less than the video.
    - ``at_most`` (Chat-UniVi): all frames of a video that has no more, else those of ``linspace``.

    Raises:
        ZooError: for an unknown kind or less than one frame.
    """

    kind: str = "linspace"
    num_frames: int = 8

    def __post_init__(self) -> None:
        if self.kind not in _RULES:
            raise ZooError(f"unknown frame sampling {self.kind!r}.{nearest(self.kind, list(_RULES))}")
        if self.num_frames < 1:
            raise ZooError(f"frame sampling of {self.num_frames} frames is not possible; ask for at least 1")

    def indices(self, num_available: int) -> list[int]:
        """Indices of the chosen frames in 0..num_available - 1, not falling. ``num_available`` is at least 1."""
        assert num_available >= 1, num_available
        return _RULES[self.kind](num_available, self.num_frames)


def _linspace(num_available: int, num_wanted: int) -> list[int]:
    return np.linspace(0, num_available - 1, num_wanted, dtype=int).tolist()


def _at_most(num_available: int, num_wanted: int) -> list[int]:
    return _linspace(num_available, min(num_wanted, num_available))


def _arange(num_available: int, num_wanted: int) -> list[int]:
    count = min(num_wanted, num_available)
    # Rounding can make numpy return one number more.
    return np.arange(0, num_available, num_available / count).astype(int).tolist()[:count]


def _segments(num_available: int, num_wanted: int) -> list[int]:
    count = min(num_wanted, num_available)
    length = (num_available - 1) / count
    bounds = [round(length * index) for index in range(count + 1)]
    return [(start + end) // 2 for start, end in pairwise(bounds)]


_RULES = {"linspace": _linspace, "arange": _arange, "segments": _segments, "at_most": _at_most}
