"""LLaVA (Liu et al., 2023): CLIP-L/224 patches of the penultimate layer through a linear layer into Vicuna's input."""

from zoo import EncoderConfig, LanguageModelConfig, Linear, Method, Splice, Stage, method


@method("llava")
def llava() -> Method:
    return Method(
        name="llava",
        encoder=EncoderConfig(id="clip-vit-l-224", layer=-2, resize="crop"),
        connector=Linear(),
        fusion=Splice(),
        language_model=LanguageModelConfig(id="vicuna-7b-v1.3"),
        template="llava_v0",
        stages=(
            Stage(
                "align",
                data="llava-cc3m-595k",
                train={"connector": "full"},
                lr=2e-3,
                batch=128,
                template="plain",
            ),
            Stage(
                "instruct",
                data="llava-instruct-158k",
                train={"connector": "full", "language_model": "full"},
                lr=2e-5,
                batch=128,
                epochs=3,
            ),
        ),
    )
