"""LLaMA-VID (Li et al., 2024): of each frame one token of what the question asks for and one of what is there."""

from zoo import ContextContent, EncoderConfig, FrameSampling, LanguageModelConfig, Method, Splice, Stage, method


@method("llama-vid")
def llama_vid() -> Method:
    """The video models at 224 pixels; the third stage, for films, is left out.

    Published, the k-th turn has the frames again and is answered with tokens of its own question, and the placeholder
    stands before or behind the question at random; here a medium has one place, and its tokens read all questions of
    the conversation. One frame a second without a cap, as far as the prompt's length goes; here at most 256.
    """
    return Method(
        name="llama-vid",
        encoder=EncoderConfig(id="eva-clip-g-224", layer=-1, class_token=True, resize="squash"),
        connector=ContextContent(content_grid=1, initial="Salesforce/instructblip-vicuna-7b"),
        fusion=Splice(),
        language_model=LanguageModelConfig(id="vicuna-7b-v1.5"),
        template="vicuna_v1",
        frames=FrameSampling(kind="at_most", num_frames=256),
        stages=(
            Stage(
                "align",
                data="llava-558k+webvid-232k",
                train={
                    "connector": "full",
                    "connector.norm": "frozen",
                    "connector.body": "frozen",
                    "connector.embeddings": "frozen",
                },
                lr=1e-3,
                batch=256,
                template="plain",
            ),
            Stage(
                "instruct",
                data="llava-665k+video-chatgpt-100k",
                train={"connector": "full", "language_model": "full"},
                lr=2e-5,
                batch=128,
            ),
        ),
    )
