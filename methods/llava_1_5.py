"""LLaVA-1.5 (Liu et al., 2023): CLIP-L/336 patches through a two-layer MLP into Vicuna; images padded square."""

from zoo import MLP, EncoderConfig, LanguageModelConfig, Method, Splice, Stage, method


@method("llava-1.5")
def llava_1_5() -> Method:
    return Method(
        name="llava-1.5",
        encoder=EncoderConfig(id="clip-vit-l-336", layer=-2, resize="pad"),
        connector=MLP(depth=2),
        fusion=Splice(),
        language_model=LanguageModelConfig(id="vicuna-7b-v1.5"),
        template="vicuna_v1",
        stages=(
            Stage("align", data="llava-558k", train={"connector": "full"}, lr=1e-3, batch=256, template="plain"),
            Stage(
                "instruct",
                data="llava-665k",
                train={"connector": "full", "language_model": "full"},
                lr=2e-5,
                batch=128,
            ),
        ),
    )
