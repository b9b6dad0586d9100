"""OpenFlamingo (Awadalla et al., 2023): CLIP-L/224 patches through a resampler; a frozen language model reads the 64
latents of its newest image in gated cross-attention blocks between its layers.

This is the published model on RedPajama-INCITE 3B, a block in front of every second layer; others differ in the
language model and in ``fusion.every`` (1 for 1B and 4 for 7B parameters).
"""

from zoo import EncoderConfig, GatedCrossAttention, LanguageModelConfig, Method, Resampler, Stage, method

# Of the token embeddings only the rows of the added tokens are trained.
TRAINED = {"connector": "full", "fusion": "full", "added_tokens": "full"}


@method("openflamingo")
def openflamingo() -> Method:
    recipe = {
        "train": TRAINED,
        "lr": 1e-4,
        "warmup": 0.06,
        "schedule": "constant",
        "part_weight_decay": {"fusion": 0.1},
    }
    return Method(
        name="openflamingo",
        # The last block's patches before the final norm, as open_clip gave them when the weights were trained.
        encoder=EncoderConfig(id="clip-vit-l-224", layer=-1, resize="crop"),
        connector=Resampler(),
        fusion=GatedCrossAttention(every=2),
        language_model=LanguageModelConfig(id="redpajama-3b"),
        template="openflamingo",
        added_tokens=("<|endofchunk|>", "<image>"),
        stages=(
            # Published: at every step captioned images (LAION-2B, template openflamingo_caption, loss x 0.2) as well.
            Stage("align", data="mmc4", batch=2048, max_length=256, template="openflamingo_document", **recipe),
            # Not in the paper, which ends there: the same parameters on instructions, as in Otter and for comparisons.
            Stage("instruct", data="llava-665k", batch=128, **recipe | {"lr": 1e-5, "schedule": "cosine"}),
        ),
    )
