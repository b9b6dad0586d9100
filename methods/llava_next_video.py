"""LLaVA-NeXT-Video (Zhang et al., 2024): LLaVA-1.6 on images; a frame of a video is 2 x 2 pooled before the MLP."""

import dataclasses

from methods.llava_next import llava_next
from zoo import AnyResolutionMLP, FrameSampling, Method, method


@method("llava-next-video")
def llava_next_video() -> Method:
    """The first release (7B), which pools before the MLP and ends no rows. Frames are cropped, not cut into tiles.

    Its training is not in the repository; ``instruct`` adds videos to LLaVA-1.6's data. Published, the language model's
    positions are scaled by 2 for 32 frames; here the setting's or checkpoint's language model decides.
    """
    base = llava_next()
    align, instruct = base.stages
    return dataclasses.replace(
        base,
        name="llava-next-video",
        connector=AnyResolutionMLP(depth=2, video_pool="average"),
        frames=FrameSampling(kind="linspace", num_frames=32),
        stages=(align, dataclasses.replace(instruct, data="llava-next-760k+video-chatgpt-100k", max_length=8192)),
    )
