"""Chat-UniVi (Jin et al., 2024): patches that are alike merge into 112 tokens an image, or an event of a video."""

from zoo import EncoderConfig, FrameSampling, LanguageModelConfig, Method, Splice, Stage, TokenMerging, method


@method("chat-univi")
def chat_univi() -> Method:
    """Version 1. The published frames are one a second before the cap; the published code takes two images in a row as
    images and more as a video, here a medium says what it is.
    """
    return Method(
        name="chat-univi",
        encoder=EncoderConfig(id="clip-vit-l-224", layer=-2, resize="crop"),
        connector=TokenMerging(num_clusters=(64, 32, 16), neighbours=(5, 3, 3), events=1 / 16, event_neighbours=5),
        fusion=Splice(),
        language_model=LanguageModelConfig(id="vicuna-7b-v1.5"),
        template="chat_univi",
        frames=FrameSampling(kind="at_most", num_frames=64),
        stages=(
            Stage(
                "align",
                data="cc3m-595k+coco-captions",
                train={"connector": "full"},
                lr=2e-3,
                batch=128,
                template="plain",
            ),
            Stage(
                "instruct",
                data="llava-instruct-150k+mimic-it-images+video-chatgpt-100k",
                train={"connector": "full", "language_model": "full"},
                lr=2e-5,
                batch=128,
                epochs=2,
            ),
        ),
    )
