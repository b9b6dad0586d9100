"""Video-ChatGPT (Maaz et al., 2024): the mean of each frame and the mean of each patch, through one linear layer."""

from zoo import (
    EncoderConfig,
    FrameSampling,
    LanguageModelConfig,
    Method,
    SpatioTemporalPooling,
    Splice,
    Stage,
    method,
)


@method("video-chatgpt")
def video_chatgpt() -> Method:
    """``align`` is the first stage of LLaVA-Lightning v1.1, from whose projector the published training starts.

    Published, its language model has been tuned on LLaVA's instructions in between; what ``instruct`` trains is the
    projector and the input rows of the added tokens (here their rows of the head as well, which no label asks for).
    """
    return Method(
        name="video-chatgpt",
        # Frames are stretched to the square, by the nearest pixel.
        encoder=EncoderConfig(id="clip-vit-l-224", layer=-2, resize="squash", interpolation="nearest"),
        connector=SpatioTemporalPooling(num_temporal=100, pad=True),
        fusion=Splice(),
        language_model=LanguageModelConfig(id="vicuna-7b-v1.1"),
        template="video_chatgpt",
        frames=FrameSampling(kind="segments", num_frames=100),
        added_tokens=("<vid_start>", "<vid_end>"),
        stages=(
            Stage("align", data="llava-558k", train={"connector": "full"}, lr=2e-3, batch=128, template="plain"),
            Stage(
                "instruct",
                data="video-chatgpt-100k",
                train={"connector": "full", "added_tokens": "full"},
                lr=2e-5,
                batch=32,
                epochs=3,
            ),
        ),
    )
