"""Video-LLaMA (Zhang et al., 2023), vision branch: a Q-Former per frame, frame positions, a Q-Former over the video."""

from zoo import EncoderConfig, FrameSampling, LanguageModelConfig, Method, Splice, Stage, VideoQFormer, method

# Encoder, language model and the Q-Former that reads single frames (with its LayerNorm, BLIP-2's) stay as they are.
_TRAIN = {"connector": "full", "connector.frame": "frozen", "connector.norm": "frozen"}


@method("video-llama")
def video_llama() -> Method:
    """The published linear layer starts from MiniGPT-4's. The cosine ends above zero there: at 8e-5 and at 1e-5."""
    return Method(
        name="video-llama",
        encoder=EncoderConfig(id="eva-clip-g-224", layer=-1, class_token=True, resize="squash"),
        connector=VideoQFormer(initial="Salesforce/blip2-flan-t5-xxl"),
        fusion=Splice(),
        language_model=LanguageModelConfig(id="vicuna-7b-v0"),
        template="video_llama",
        frames=FrameSampling(kind="arange", num_frames=8),
        exemptions={
            "overfits_four_samples_and_stops": "two Q-Formers in a row, the first frozen (in tiny parts: random), pass "
            "on too little of the image for 70 steps; 200 at a third of the rate are enough"
        },
        stages=(
            Stage(
                "align",
                data="video-llama-webvid-cc595k",
                train=_TRAIN,
                lr=1e-4,
                batch=32,
                steps=12_500,
                warmup=0.2,
                weight_decay=0.05,
                template="plain",
                max_length=96,
            ),
            Stage(
                "instruct",
                data="video-llama-instruct-171k",
                train=_TRAIN,
                lr=3e-5,
                batch=4,
                steps=3000,
                warmup=1 / 3,
                weight_decay=0.05,
                max_length=512,
            ),
        ),
    )
