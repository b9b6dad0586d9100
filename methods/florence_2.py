"""Florence-2 (Xiao et al., 2024): DaViT's map, its mean before it, in the encoder of a BART; a task is a prompt."""

from zoo import EncoderConfig, LanguageModelConfig, MeanAndPatches, Method, Splice, Stage, method


@method("florence-2")
def florence_2() -> Method:
    """The base size. ``align`` is the pretraining on FLD-5B at 384 pixels, ``instruct`` its end at 768; the data were
    not released. Boxes are the zoo's numerals; published, they are 1000 location tokens a side.
    """
    train = {"encoder": "full", "connector": "full", "language_model": "full"}
    return Method(
        name="florence-2",
        encoder=EncoderConfig(id="davit-b-768", layer=-1, resize="squash"),
        connector=MeanAndPatches(),
        fusion=Splice(),
        language_model=LanguageModelConfig(id="bart-base"),
        template="florence_2",
        exemptions={
            "packed_equals_padded": "an encoder-decoder has no mask between encoder and decoder for packed rows"
        },
        stages=(
            Stage("align", data="fld-5b", train=train, lr=1e-4, batch=2048, max_length=256),
            Stage("instruct", data="fld-5b-768", train=train, lr=1e-4, batch=3072, max_length=1024),
        ),
    )
