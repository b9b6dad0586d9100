"""Kosmos-2 (Peng et al., 2023): 64 latents read CLIP; a decoder trained from scratch writes boxes as grid tokens."""

from zoo import EncoderConfig, LanguageModelConfig, LatentQueries, Method, Splice, Stage, method

_DECODER = {
    "model_type": "kosmos_2_text_model",
    "vocab_size": 65037,
    "max_position_embeddings": 2048,
    "embed_dim": 2048,
    "layers": 24,
    "ffn_dim": 8192,
    "attention_heads": 32,
    "activation_function": "gelu",
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "layer_norm_eps": 1e-5,
    "scale_embedding": True,
    "bos_token_id": 0,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": True,
}


@method("kosmos-2")
def kosmos_2() -> Method:
    both = {"connector": "full", "language_model": "full"}
    # 419 thousand tokens a step in the paper; the released script sets the rest.
    recipe = {"batch": 4096, "betas": (0.9, 0.98), "eps": 1e-6, "weight_decay": 0.01, "clip": 2.0}
    return Method(
        name="kosmos-2",
        # All tokens of the last layer after its norm; the connector scales them to length 1.
        encoder=EncoderConfig(id="clip-vit-l-224", layer=-1, class_token=True, post_norm=True, resize="squash"),
        connector=LatentQueries(num_queries=64, num_heads=32),
        fusion=Splice(),
        language_model=LanguageModelConfig(
            architecture=_DECODER, tokenizer="microsoft/kosmos-2-patch14-224", has_added_tokens=True
        ),
        template="kosmos_2",
        box_codec="kosmos-2",
        # Beside those of the box format.
        added_tokens=("<image>", "</image>"),
        # Pretraining on grounded captions, then instructions. The rate of the second stage was not published.
        stages=(
            Stage("align", data="grit", train=both, lr=2e-4, steps=60_000, warmup=0.00625, **recipe),
            Stage("instruct", data="kosmos-2-instructions", train=both, lr=2e-5, **recipe),
        ),
    )
