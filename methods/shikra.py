"""Shikra (Chen et al., 2023): LLaVA's linear layer, and boxes as plain decimals in text, of users and model alike."""

from zoo import EncoderConfig, LanguageModelConfig, Linear, Method, Splice, Stage, method


@method("shikra")
def shikra() -> Method:
    both = {"connector": "full", "language_model": "full"}
    return Method(
        name="shikra",
        encoder=EncoderConfig(id="clip-vit-l-224", layer=-2, resize="pad", pad_colour=(255, 255, 255)),
        connector=Linear(),
        fusion=Splice(),
        # The published run starts from a Vicuna of version 1.1, whose prompt it keeps.
        language_model=LanguageModelConfig(id="vicuna-7b-v1.1"),
        template="shikra",
        box_codec="shikra",
        added_tokens=("<im_patch>", "<im_start>", "<im_end>"),
        # Three published stages: expressions alone, then a mixture of region and image tasks, then conversations. The
        # first two differ in their data alone and are one here.
        stages=(
            Stage("align", data="shikra-concat8", train=both, lr=2e-5, batch=64, epochs=2),
            Stage("instruct", data="shikra-final19", train=both, lr=2e-5, batch=64, epochs=3),
        ),
    )
