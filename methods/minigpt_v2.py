"""MiniGPT-v2 (Chen et al., 2023): four neighbouring patches of EVA-CLIP-g at 448 pixels in one token; boxes as text."""

from zoo import Concatenation, EncoderConfig, LanguageModelConfig, LoraConfig, Method, Splice, Stage, method


@method("minigpt-v2")
def minigpt_v2() -> Method:
    """Tuned are the projection and adapters of the language model, in every stage.

    A question of a known kind begins with its identifier, which is plain text of the data: ``[vqa]``, ``[caption]``,
    ``[grounding]``, ``[refer]``, ``[identify]``, ``[detection]``. Published are three stages; the second, 50k steps on
    the better annotated of the first one's data, is left out.

    Deviations: adapters go into every linear layer, published into queries and values alone. A prompt has one BOS; the
    published evaluation has two where training had one.
    """
    train = {"connector.projection": "full", "language_model": "lora"}
    recipe = {"train": train, "warmup": 0.0025, "weight_decay": 0.05}
    return Method(
        name="minigpt-v2",
        encoder=EncoderConfig(id="eva-clip-g-224", layer=-1, image_size=448, resize="squash"),
        connector=Concatenation(initial="Salesforce/blip2-flan-t5-xxl"),
        fusion=Splice(),
        language_model=LanguageModelConfig(id="llama-2-7b-chat"),
        template="minigpt_v2",
        box_codec="minigpt-v2",
        lora=LoraConfig(rank=64, alpha=16.0, dropout=0.05),
        stages=(
            # Figures of the paper, from memory: only the last stage's were released.
            Stage("align", data="minigpt-v2-stage-1", lr=1e-4, batch=96, steps=400_000, **recipe),
            Stage(
                "instruct",
                data="minigpt-v2-stage-3",
                lr=1e-5,
                batch=24,
                steps=35_000,
                max_length=1280,
                **recipe | {"warmup": 1000 / 35_000},
            ),
        ),
    )
