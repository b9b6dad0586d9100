"""LLaVA-OneVision (Li et al., 2024): SigLIP patches of up to 36 tiles, shrunk to the patches of 9, into Qwen2."""

from zoo import (
    AnyResolutionMLP,
    EncoderConfig,
    FrameSampling,
    LanguageModelConfig,
    Method,
    Splice,
    Stage,
    Tiles,
    method,
)

SIDES = range(1, 7)


@method("llava-onevision")
def llava_onevision() -> Method:
    """One image is cut into tiles, several are padded squares, frames of videos are squashed and pooled to a quarter.

    Published, three stages follow ``align``: knowledge (4M), single images (3.2M), then images and videos (1.6M). All
    train everything at the same rates, so they are one stage here.
    """
    return Method(
        name="llava-onevision",
        # The output of the last block but one: the published tower has lost its last block.
        encoder=EncoderConfig(
            id="siglip-so400m-384",
            layer=-2,
            resize="pad",
            video_resize="squash",
            tiles=Tiles(grids=tuple((rows, columns) for rows in SIDES for columns in SIDES), only_single=True),
        ),
        connector=AnyResolutionMLP(depth=2, max_tiles=9, video_pool="bilinear"),
        fusion=Splice(),
        # Qwen2 has the marks of its turns; another language model gets rows for them.
        language_model=LanguageModelConfig(id="qwen2-7b-instruct", has_added_tokens=True),
        template="chatml",
        added_tokens=("<|im_start|>", "<|im_end|>"),
        frames=FrameSampling(kind="linspace", num_frames=32),
        stages=(
            Stage(
                "align",
                data="llava-558k",
                train={"connector": "full"},
                lr=1e-3,
                batch=512,
                template="plain",
                max_length=8192,
            ),
            Stage(
                "instruct",
                data="llava-onevision-8.8m",
                train={"encoder": "full", "connector": "full", "language_model": "full"},
                lr=1e-5,
                part_lr={"encoder": 2e-6},
                batch=256,
                max_length=32768,
            ),
        ),
    )
