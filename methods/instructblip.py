"""InstructBLIP (Dai et al., 2023): BLIP-2 whose Q-Former reads the instruction beside the image."""

import dataclasses

from zoo import EncoderConfig, LanguageModelConfig, Method, QFormer, Splice, Stage, method


@method("instructblip")
def instructblip() -> Method:
    """The Vicuna form. ``align`` is BLIP-2's second stage, from which the published training starts."""
    return Method(
        name="instructblip",
        encoder=EncoderConfig(id="eva-clip-g-224", layer=-1, class_token=True, resize="squash"),
        connector=QFormer(reads_instruction=True),
        fusion=Splice(),
        language_model=LanguageModelConfig(id="vicuna-7b-v1.1"),
        template="instructblip",
        stages=(
            Stage(
                "align",
                data="blip2-129m",
                train={"connector": "full"},
                lr=1e-4,
                batch=1920,
                steps=80_000,
                warmup=0.025,
                weight_decay=0.05,
                max_length=160,
            ),
            Stage(
                "instruct",
                data="instructblip-13",
                train={"connector": "full"},
                lr=1e-5,
                batch=128,
                steps=60_000,
                warmup=1 / 60,
                weight_decay=0.05,
                max_length=416,
            ),
        ),
    )


@method("instructblip-flan-t5")
def instructblip_flan_t5() -> Method:
    """The Flan-T5 form: instruction and image in the encoder, the answer in the decoder."""
    published = instructblip()
    align, instruct = published.stages
    return dataclasses.replace(
        published,
        name="instructblip-flan-t5",
        language_model=LanguageModelConfig(id="flan-t5-xl", overrides={"dense_act_fn": "gelu"}),
        exemptions={
            "packed_equals_padded": "an encoder-decoder has no mask between encoder and decoder for packed rows"
        },
        template="instructblip_t5",
        stages=(dataclasses.replace(align, batch=1520), dataclasses.replace(instruct, batch=192)),
    )
