"""GPT4RoI (Zhang et al., 2023): a region that the user points at becomes a token, pooled from four encoder layers."""

from zoo import EncoderConfig, GPT4RoI, LanguageModelConfig, Method, Splice, Stage, method


@method("gpt4roi")
def gpt4roi() -> Method:
    return Method(
        name="gpt4roi",
        encoder=EncoderConfig(id="clip-vit-l-224", layer=-2, resize="squash"),
        connector=GPT4RoI(),
        fusion=Splice(),
        language_model=LanguageModelConfig(id="vicuna-7b-v0"),
        template="gpt4roi",
        box_codec="gpt4roi",
        added_tokens=("<im_patch>", "<im_start>", "<im_end>", "<bbox>", "<point>"),
        stages=(
            # LLaVA's own first stage, from which the published training starts. Published next: the region module alone
            # on references to regions (2 epochs at 2e-5); it learns in ``instruct``: settings have two stages.
            Stage(
                "align",
                data="llava-cc3m-595k",
                train={"connector.projection": "full"},
                lr=2e-3,
                batch=128,
                template="plain",
            ),
            Stage(
                "instruct",
                data="gpt4roi-conversations",
                train={"connector": "full", "language_model": "full"},
                lr=2e-5,
                batch=16,
                epochs=2,
            ),
        ),
    )
