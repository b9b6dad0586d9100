"""PaliGemma (Beyer et al., 2024): SigLIP's patches through a linear layer into Gemma, whose prompt is a prefix."""

from zoo import EncoderConfig, LanguageModelConfig, Linear, Method, PrefixSplice, Stage, method


@method("paligemma")
def paligemma() -> Method:
    """The model at 224 pixels. ``align`` is its multimodal pretraining, whose data were not released, and ``instruct``
    the transfer to a mixture of tasks; batches and rates are from memory. Published, the tower's rate warms up slowly.
    """
    train = {"encoder": "full", "connector": "full", "language_model": "full"}
    return Method(
        name="paligemma",
        encoder=EncoderConfig(id="siglip-so400m-224", layer=-1, post_norm=True, resize="squash"),
        connector=Linear(),
        fusion=PrefixSplice(),
        language_model=LanguageModelConfig(id="gemma-2b"),
        template="paligemma",
        stages=(
            Stage("align", data="paligemma-pretraining-1b", train=train, lr=2e-5, batch=4096, max_length=384),
            Stage("instruct", data="paligemma-mix", train=train, lr=1e-5, batch=256, max_length=512),
        ),
    )
