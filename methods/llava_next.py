"""LLaVA-1.6 / LLaVA-NeXT (Liu et al., 2024): LLaVA-1.5 on the whole image and on tiles of it at full resolution."""

import dataclasses

from zoo import AnyResolutionMLP, EncoderConfig, LanguageModelConfig, Method, Splice, Stage, Tiles, method


@method("llava-next")
def llava_next() -> Method:
    """The Vicuna form. Its training code was never released; ``instruct`` follows the announcement.

    Published, ``align`` is LLaVA-1.5's, of whole images; here its images are cut into tiles too, so that the vector
    that ends their rows is trained from the start.
    """
    return Method(
        name="llava-next",
        encoder=EncoderConfig(id="clip-vit-l-336", layer=-2, resize="crop", tiles=Tiles()),
        connector=AnyResolutionMLP(depth=2),
        fusion=Splice(),
        language_model=LanguageModelConfig(id="vicuna-7b-v1.5"),
        template="vicuna_v1",
        stages=(
            Stage("align", data="llava-558k", train={"connector": "full"}, lr=1e-3, batch=256, template="plain"),
            Stage(
                "instruct",
                data="llava-next-760k",
                train={"encoder": "full", "connector": "full", "language_model": "full"},
                lr=2e-5,
                part_lr={"encoder": 2e-6},
                batch=128,
                max_length=4096,
            ),
        ),
    )


@method("llava-next-mistral")
def llava_next_mistral() -> Method:
    """The Mistral form: another language model and its format of conversations."""
    return dataclasses.replace(
        llava_next(),
        name="llava-next-mistral",
        language_model=LanguageModelConfig(id="mistral-7b-instruct-v0.2"),
        template="mistral_instruct",
    )
