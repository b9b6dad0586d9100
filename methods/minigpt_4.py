"""MiniGPT-4 (Zhu et al., 2023): BLIP-2's Q-Former as it is, and one linear layer into Vicuna; only that is trained."""

from zoo import EncoderConfig, LanguageModelConfig, Method, QFormer, Splice, Stage, method


@method("minigpt-4")
def minigpt_4() -> Method:
    """Frozen: encoder, Q-Former (of BLIP-2 with Flan-T5-XXL) and language model."""
    return Method(
        name="minigpt-4",
        encoder=EncoderConfig(id="eva-clip-g-224", layer=-1, class_token=True, resize="squash"),
        connector=QFormer(initial="Salesforce/blip2-flan-t5-xxl"),
        fusion=Splice(),
        language_model=LanguageModelConfig(id="vicuna-7b-v0"),
        template="minigpt_4",
        exemptions={
            "overfits_four_samples_and_stops": "its Q-Former is frozen as BLIP-2 left it; one of random weights, which "
            "is all that tiny parts have, passes on too little of the image"
        },
        stages=(
            Stage(
                "align",
                data="minigpt-4-laion-cc-sbu",
                train={"connector.projection": "full"},
                lr=1e-4,
                batch=256,
                steps=20_000,
                warmup=0.25,
                weight_decay=0.05,
                template="plain",
                max_length=96,
            ),
            Stage(
                "instruct",
                data="minigpt-4-cc-sbu-align",
                train={"connector.projection": "full"},
                lr=3e-5,
                batch=12,
                steps=1000,
                warmup=0.2,
                weight_decay=0.05,
                max_length=256,
            ),
        ),
    )
