"""Frame sampling: what holds of every rule, and values worked out by hand or by the published expressions."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.data.frames import FrameSampling
from zoo.errors import ZooError

KINDS = ("linspace", "arange", "segments")
counts = st.integers(1, 400), st.integers(1, 128)


@pytest.mark.parametrize("kind", KINDS)
@given(*counts)
def test_indices_exist_and_do_not_fall(kind, num_available, num_frames):
    indices = FrameSampling(kind=kind, num_frames=num_frames).indices(num_available)
    assert indices == sorted(indices)
    assert 0 <= indices[0] and indices[-1] < num_available
    assert len(indices) == (num_frames if kind == "linspace" else min(num_frames, num_available))
    gaps = [after - before for before, after in pairwise(indices)]
    assert not gaps or max(gaps) - min(gaps) <= 2


@given(*counts)
def test_linspace_reaches_both_ends(num_available, num_frames):
    indices = FrameSampling(kind="linspace", num_frames=num_frames).indices(num_available)
    assert indices[0] == 0
    assert indices[-1] == (num_available - 1 if num_frames > 1 else 0)


@given(*counts)
def test_arange_gives_a_short_video_whole(num_available, num_frames):
    indices = FrameSampling(kind="arange", num_frames=num_frames).indices(num_available)
    if num_frames >= num_available:
        assert indices == list(range(num_available))


@given(*counts)
def test_segments_are_the_published_expression(num_available, num_frames):
    count = min(num_available, num_frames)
    length = float(num_available - 1) / count
    ends = [[int(np.round(length * (index + side))) for side in (0, 1)] for index in range(count)]
    expected = [sum(pair) // 2 for pair in ends]
    assert FrameSampling(kind="segments", num_frames=num_frames).indices(num_available) == expected


def test_values():
    def chosen(kind, num_available, num_frames):
        return FrameSampling(kind=kind, num_frames=num_frames).indices(num_available)

    assert chosen("linspace", 10, 4) == [0, 3, 6, 9]
    assert chosen("linspace", 10, 8) == [0, 1, 2, 3, 5, 6, 7, 9]
    assert chosen("linspace", 2, 4) == [0, 0, 0, 1]
    assert chosen("linspace", 9, 1) == [0]
    assert chosen("arange", 16, 8) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert chosen("arange", 10, 8) == [0, 1, 2, 3, 5, 6, 7, 8]
    assert chosen("arange", 3, 8) == [0, 1, 2]
    assert chosen("segments", 3, 4) == [0, 1, 1]
    assert chosen("segments", 11, 4) == [1, 3, 6, 9]
    # The bounds 0, 2.5, 5 become 0, 2, 5: a half goes to the even neighbour.
    assert chosen("segments", 6, 2) == [1, 3]
    assert chosen("segments", 1, 100) == [0]


def test_what_is_no_sampling_is_refused():
    with pytest.raises(ZooError, match="Did you mean 'segments'"):
        FrameSampling(kind="segment")
    with pytest.raises(ZooError, match="at least 1"):
        FrameSampling(num_frames=0)


def test_at_most():
    """All frames of a short video, as many spread over a long one."""
    sampling = FrameSampling(kind="at_most", num_frames=4)
    assert [sampling.indices(n) for n in (1, 3, 4)] == [[0], [0, 1, 2], [0, 1, 2, 3]]
    assert sampling.indices(10) == [0, 3, 6, 9]
