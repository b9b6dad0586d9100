"""Qwen-VL (Bai et al., 2023): 256 queries with places on a grid read ViT-bigG at 448 pixels; boxes as text."""

from zoo import EncoderConfig, LanguageModelConfig, Method, PositionResampler, Splice, Stage, method

# Qwen-7B in the words of transformers' Qwen2, which computes the same up to 2048 tokens.
_QWEN_7B = {
    "model_type": "qwen2",
    "vocab_size": 151936,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 8192,
    "rope_theta": 10_000.0,
    "rms_norm_eps": 1e-6,
    "bos_token_id": 151643,
    "eos_token_id": 151643,
    "pad_token_id": 151643,
    "tie_word_embeddings": False,
}


@method("qwen-vl")
def qwen_vl() -> Method:
    """Pretraining on pairs, then instructions; between them stands a stage of 19k steps in which all is trained.

    Deviations: the published tower starts from this one without its class token, which here the patches see inside and
    the resampler does not; pretraining is at 224 pixels, here at 448 as the rest; Qwen-7B was released as code of its
    own, so that the language model starts from random values unless another is named. Betas, decay, clipping and
    warm-up are from memory of the paper's table.
    """
    recipe = {"betas": (0.9, 0.98), "eps": 1e-6, "weight_decay": 0.05}
    return Method(
        name="qwen-vl",
        encoder=EncoderConfig(id="clip-vit-bigg-224", layer=-1, image_size=448, resize="squash"),
        connector=PositionResampler(),
        fusion=Splice(),
        # The same vocabulary of byte pairs; the marks of images and boxes get rows of their own.
        language_model=LanguageModelConfig(architecture=_QWEN_7B, tokenizer="Qwen/Qwen2-7B-Instruct"),
        template="qwen_vl",
        box_codec="qwen-vl",
        added_tokens=("<img>", "</img>"),
        stages=(
            Stage(
                "align",
                data="qwen-vl-1.4b",
                train={"encoder": "full", "connector": "full", "added_tokens": "full"},
                lr=2e-4,
                batch=30720,
                steps=50_000,
                warmup=0.01,
                template="qwen_vl_caption",
                max_length=512,
                **recipe,
            ),
            Stage(
                "instruct",
                data="qwen-vl-chat-350k",
                train={"connector": "full", "language_model": "full"},
                lr=1e-5,
                batch=128,
                steps=8_000,
                warmup=0.375,
                **recipe,
            ),
        ),
    )
