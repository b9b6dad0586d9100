"""Otter (Li et al., 2023): OpenFlamingo tuned on instructions with in-context examples, each with its image."""

import dataclasses

from methods.openflamingo import openflamingo
from zoo import GatedCrossAttention, LanguageModelConfig, Method, Stage, method


@method("otter")
def otter() -> Method:
    base = openflamingo()
    return dataclasses.replace(
        base,
        name="otter",
        fusion=GatedCrossAttention(every=4),
        language_model=LanguageModelConfig(id="llama-7b"),
        template="otter",
        added_tokens=(*base.added_tokens, "<answer>"),
        # The align stage is that of OpenFlamingo-9B, which Otter's training begins with.
        stages=(
            base.stage("align"),
            Stage(
                "instruct",
                data="mimic-it",
                train={
                    "connector": "full",
                    "fusion": "full",
                    "language_model.model.model.embed_tokens": "full",
                    "language_model.model.lm_head": "full",
                },
                lr=1e-5,
                batch=64,
                epochs=3,
                warmup=0.01,
                part_weight_decay={"fusion": 0.1},
                max_length=1024,
            ),
        ),
    )
