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
            # The published first stage trains the region module alone, beside a projection that LLaVA's align stage has
            # trained on plain captions. That stage is this one: without its file the projection has to learn here.
            Stage(
                "align",
                data="gpt4roi-regions",
                train={"connector": "full"},
                lr=2e-5,
                batch=4,
                epochs=2,
                warmup=0.003,
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
