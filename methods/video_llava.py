"""Video-LLaVA (Lin et al., 2024): an image tower and a video tower, aligned beforehand, share one projector."""

from zoo import MLP, EncoderConfig, FrameSampling, LanguageModelConfig, Method, Splice, Stage, method


@method("video-llava")
def video_llava() -> Method:
    """Images give 256 patches, frames of videos 257 tokens, the class token first.

    The video tower attends over time, as in the original code. transformers' class of the same name has a plain CLIP
    tower there; checkpoints of layout ``video-llava-hf`` build it so. Published, frames are mirrored at random, at
    inference too; here they are not. Under a setting both towers are the setting's encoder.
    """
    return Method(
        name="video-llava",
        encoder=EncoderConfig(
            id="languagebind-image",
            layer=-2,
            class_token=True,
            resize="pad",
            video=EncoderConfig(
                id="languagebind-video", layer=-2, class_token=True, resize="crop", interpolation="bilinear"
            ),
        ),
        connector=MLP(depth=2, image_class_token=False),
        fusion=Splice(),
        language_model=LanguageModelConfig(id="vicuna-7b-v1.5"),
        template="vicuna_v1",
        frames=FrameSampling(kind="linspace", num_frames=8),
        stages=(
            Stage(
                "align",
                data="video-llava-1260k",
                train={"connector": "full"},
                lr=1e-3,
                batch=256,
                template="plain",
                max_length=3072,
            ),
            Stage(
                "instruct",
                data="video-llava-765k",
                train={"connector": "full", "language_model": "full"},
                lr=2e-5,
                batch=128,
                max_length=3072,
            ),
        ),
    )
