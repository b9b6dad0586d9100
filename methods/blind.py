"""Blind: the language model alone, tuned on the same conversations without the image. What a question gives away."""

from zoo import LanguageModelConfig, Method, Stage, method


@method("blind")
def blind() -> Method:
    return Method(
        name="blind",
        language_model=LanguageModelConfig(id="vicuna-7b-v1.5"),
        template="vicuna_v1",
        # Without a connector there is nothing to align: the only stage is LLaVA-1.5's second.
        stages=(Stage("instruct", data="llava-665k", train={"language_model": "full"}, lr=2e-5, batch=128),),
    )
