"""BLIP-2 (Li et al., 2023): 32 queries learn to read a frozen encoder, then to speak to a frozen language model."""

import dataclasses

from zoo import EncoderConfig, LanguageModelConfig, Method, QFormer, Splice, Stage, method

_DATA = "blip2-129m"


@method("blip2")
def blip2() -> Method:
    """The OPT form: captions end with a newline, which is the end of a turn as well."""
    return Method(
        name="blip2",
        encoder=EncoderConfig(id="eva-clip-g-224", layer=-1, class_token=True, resize="squash"),
        connector=QFormer(representation=True),
        fusion=Splice(),
        language_model=LanguageModelConfig(id="opt-2.7b"),
        template="blip2_opt",
        stages=(
            Stage(
                "represent",
                data=_DATA,
                train={"connector": "full", "connector.projection": "frozen"},
                objective="connector",
                lr=1e-4,
                batch=1680,
                steps=250_000,
                warmup=0.008,
                weight_decay=0.05,
                template="blip2_opt_caption",
                max_length=96,
            ),
            Stage(
                "align",
                data=_DATA,
                train={"connector": "full"},
                lr=1e-4,
                batch=1920,
                steps=80_000,
                warmup=0.025,
                weight_decay=0.05,
                template="blip2_opt_caption",
                max_length=96,
            ),
        ),
    )


@method("blip2-flan-t5")
def blip2_flan_t5() -> Method:
    """The Flan-T5 form: the encoder reads image and prompt, the decoder writes. LAVIS loads it with the exact GELU."""
    published = blip2()
    represent, align = published.stages
    return dataclasses.replace(
        published,
        name="blip2-flan-t5",
        language_model=LanguageModelConfig(id="flan-t5-xl", overrides={"dense_act_fn": "gelu"}),
        exemptions={
            "packed_equals_padded": "an encoder-decoder has no mask between encoder and decoder for packed rows"
        },
        template="blip2_t5",
        stages=(
            dataclasses.replace(represent, template="blip2_t5_caption"),
            dataclasses.replace(align, batch=1520, template="blip2_t5_caption"),
        ),
    )
