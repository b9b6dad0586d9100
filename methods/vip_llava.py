"""ViP-LLaVA (Cai et al., 2024): LLaVA-1.5 on five layers of CLIP; the user points by drawing on the image."""

from zoo import MLP, EncoderConfig, LanguageModelConfig, Method, Splice, Stage, method


@method("vip-llava")
def vip_llava() -> Method:
    """A user's box is drawn on the image and written as ``within the red rectangle``; answers have numerals.

    Published, a short third stage at a hundredth of the rate adds 13k samples of GPT-4V's.
    """
    return Method(
        name="vip-llava",
        # The last index counts from the first block: an early layer, for the thin lines of what is drawn.
        encoder=EncoderConfig(id="clip-vit-l-336", layers=(-2, -5, -8, -11, 6), resize="pad"),
        connector=MLP(depth=2, norm_eps=1e-5),
        fusion=Splice(),
        language_model=LanguageModelConfig(id="vicuna-7b-v1.5"),
        template="vicuna_v1",
        box_codec="vip-llava",
        stages=(
            Stage("align", data="llava-558k", train={"connector": "full"}, lr=1e-3, batch=256, template="plain"),
            Stage(
                "instruct",
                data="vip-llava-1.2m",
                train={"connector": "full", "language_model": "full"},
                lr=2e-5,
                batch=128,
            ),
        ),
    )
