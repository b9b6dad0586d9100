"""Variants of LLaVA and LLaVA-1.5 that differ in their data, and in what of the recipe goes with it.

Each is the base's network with its own name and stages. Numbers of samples are in the names of the data.
"""

from dataclasses import replace

from methods.llava import llava
from methods.llava_1_5 import llava_1_5
from zoo import LanguageModelConfig, LoraConfig, Method, Stage, method


def _variant(name: str, base: Method, *, align: str = "", instruct: str) -> Method:
    """The base on other data; without ``align`` the first stage keeps its own."""
    first, second = base.stages
    stages = (replace(first, data=align or first.data), replace(second, data=instruct))
    return replace(base, name=name, stages=stages)


@method("sharegpt4v")
def sharegpt4v() -> Method:
    """Chen et al., 2023, on LLaVA-1.5: captions of a captioner trained on GPT-4V's, in both stages.

    The first begins with LLaVA-1.5's aligned projector and trains encoder and language model with it, at 2e-5 for all.
    Deviations: the whole encoder is trained, published its upper half (blocks 12 and above); images are padded in that
    stage too, published only in the second; the projector begins from random values.
    """
    base = llava_1_5()
    align = Stage(
        "align",
        data="sharegpt4v-pt-1246k",
        train={"encoder": "full", "connector": "full", "language_model": "full"},
        lr=2e-5,
        batch=256,
        template="plain",
    )
    return replace(base, name="sharegpt4v", stages=(align, replace(base.stages[1], data="sharegpt4v-mix665k")))


@method("lvis-instruct4v")
def lvis_instruct4v() -> Method:
    """Wang et al., 2023, on LLaVA-1.5: its mixture and 220k instructions that GPT-4V wrote on images of LVIS."""
    return _variant("lvis-instruct4v", llava_1_5(), instruct="llava-665k+lvis-instruct4v-220k")


@method("svit")
def svit() -> Method:
    """Zhao et al., 2023, the second version, on LLaVA-1.5: its mixture with a selection of SVIT's 4.2M samples."""
    return _variant("svit", llava_1_5(), instruct="svit-mix-665k")


@method("stablellava")
def stablellava() -> Method:
    """Li et al., 2023, on LLaVA: dialogues by ChatGPT on images that Stable Diffusion drew for them, and LLaVA's."""
    return _variant("stablellava", llava(), instruct="llava-instruct-158k+stablellava-126k")


@method("llavar")
def llavar() -> Method:
    """Zhang et al., 2023, on LLaVA: images full of text, 422k with recognised words, 16k with GPT-4's dialogues."""
    return _variant("llavar", llava(), align="llava-cc3m-595k+llavar-422k", instruct="llava-instruct-158k+llavar-16k")


@method("lamm")
def lamm() -> Method:
    """Yin et al., 2023, the 2D part, on LLaVA's network: projection and adapters of Vicuna-13B in one stage on 186k.

    Here that stage follows LLaVA's alignment, which the paper does without. Rank and rate are from memory.
    """
    base = llava()
    stage = replace(
        base.stages[1],
        data="lamm-2d-186k",
        train={"connector": "full", "language_model": "lora"},
        lr=5e-4,
        batch=64,
        epochs=2,
    )
    return replace(
        base,
        name="lamm",
        language_model=LanguageModelConfig(id="vicuna-13b-v0"),
        lora=LoraConfig(rank=32, alpha=32.0, dropout=0.1),
        stages=(base.stages[0], stage),
    )


@method("llava-med")
def llava_med() -> Method:
    """Li et al., 2023, on LLaVA: figures of PubMed Central. The training on each benchmark is left out."""
    return _variant("llava-med", llava(), align="llava-med-pmc-600k", instruct="llava-med-60k")
