"""IDEFICS (Laurençon et al., 2023): ViT-H tokens through a resampler; LLaMA reads the newest image's latents in gated
cross-attention blocks of its own shape, with normalised queries and keys.
"""

from zoo import EncoderConfig, IdeficsCrossAttention, LanguageModelConfig, Method, Resampler, Stage, method


@method("idefics")
def idefics() -> Method:
    return Method(
        name="idefics",
        encoder=EncoderConfig(id="clip-vit-h-224", layer=-1, class_token=True, resize="squash"),
        connector=Resampler(num_heads=16, head_dim=96, activation="relu", qk_norm=True, fused_key_value=False),
        fusion=IdeficsCrossAttention(every=4),
        language_model=LanguageModelConfig(id="llama-7b"),
        template="idefics",
        added_tokens=("<fake_token_around_image>", "<image>", "<end_of_utterance>"),
        stages=(
            Stage(
                "align",
                data="obelics",
                template="idefics_document",
                train={"connector": "full", "fusion": "full", "added_tokens": "full"},
                lr=1e-5,
                batch=1024,
                warmup=0.01,
                weight_decay=0.1,
                max_length=1024,
            ),
            Stage(
                "instruct",
                data="idefics-instruct",
                train={"encoder": "full", "connector": "full", "fusion": "full", "language_model": "full"},
                lr=1e-5,
                batch=128,
                weight_decay=0.1,
                max_length=1024,
            ),
        ),
    )
