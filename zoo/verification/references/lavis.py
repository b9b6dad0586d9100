"""LAVIS's own code: BLIP-2 and InstructBLIP whole, and their Q-Former alone.

``config.json`` has the sizes that shapes do not tell: heads, and the language model's fields.
"""

import dataclasses
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor
from transformers import AutoConfig

from zoo.connectors import QFormer
from zoo.connectors.qformer_body import QFormerBody, TextEmbeddings
from zoo.connectors.qformer_representation import SMOOTHING, WordPrediction, generation_mask, matching_mask
from zoo.data.encode import IGNORED_LABEL
from zoo.factory import build_model
from zoo.language import LanguageModelConfig
from zoo.model import VLM
from zoo.verification.case import Case
from zoo.verification.inputs import MediaInput, make_batch
from zoo.verification.parts import load_canonical, load_part
from zoo.verification.registry import Arguments, Loaded, Reading, part, whole_model
from zoo.verification.report import Report
from zoo.weights import lavis
from zoo.weights.checkpoint_config import architecture, parse
from zoo.weights.files import open_weights
from zoo.weights.layouts import detect


def tower_architecture(case: Case, weights: Any) -> dict[str, Any]:
    """The tower in the file, with the heads that the case names."""
    return lavis.tower_architecture(weights) | {"num_attention_heads": case.config["vision"]["heads"]}


def _load(case: Case) -> Loaded:
    weights = open_weights(case.folder)
    layout = detect(case.config, weights.keys(), where=str(case.folder))
    method = layout.method_from_config(layout.config_from_weights(weights), case.folder)
    connector = method.connector
    assert isinstance(connector, QFormer)
    lm = case.config["lm"]
    text = parse(lambda: AutoConfig.for_model(lm["kind"], **lm["cfg"]), case.folder)
    method = dataclasses.replace(
        method,
        encoder=dataclasses.replace(
            method.encoder, id="", revision=None, architecture=tower_architecture(case, weights)
        ),
        connector=dataclasses.replace(
            connector, num_heads=case.config["qformer"]["heads"], instruction_tokenizer="", initial=""
        ),
        language_model=LanguageModelConfig(architecture=architecture(text)),
    )
    model = build_model(method, pretrained=False)
    return Loaded(model=load_canonical(model, weights, layout, where=case.folder), layout=layout)


def _stop_ids(case: Case, family: str) -> list[int]:
    special = case.config.get("special_tokens", {}).get(family, {})
    # BLIP-2's OPT ends its answer with a line.
    return [special[name] for name in ("newline_eos", "eos") if name in special][:1]


def _read(arguments: Arguments, model: VLM, case: Case, tokenizer: str, family: str) -> Reading:
    """Soft tokens, then what the calls of the tokenizers gave: the prompt, and for some classes the answer."""
    calls = [
        (arguments.require(f"{tokenizer}.{n}.input_ids"), arguments.require(f"{tokenizer}.{n}.attention_mask").bool())
        for n in range(2)
        if f"{tokenizer}.{n}.input_ids" in arguments.probe.inputs
    ]
    pixels = arguments.require("image")
    (ids, real), *answers = calls
    labels: Tensor | None = None
    if answers and model.language_model.is_encoder_decoder:
        labels = answers[0][0].masked_fill(~answers[0][1], IGNORED_LABEL)
    elif answers:
        ids, real, labels = _with_answers(ids, real, *answers[0])
    (width,) = model.num_media_tokens([1], [False])
    if labels is not None and not model.language_model.is_encoder_decoder:
        labels = functional.pad(labels, (width, 0), value=IGNORED_LABEL)
    elif labels is None and "lm_labels" in arguments.probe.outputs:
        # How much of the text is prompt was known to the class from a call that is not stored.
        labels = arguments.probe.outputs["lm_labels"]
    ids = functional.pad(ids, (width, 0))
    places = (torch.arange(ids.shape[1]) < width).expand_as(ids)
    instruction = {}
    if model.method.connector.reads_instruction:
        instruction = {
            "instruction_ids": arguments.require("tokenizer.0.input_ids"),
            "instruction_mask": arguments.require("tokenizer.0.attention_mask").bool(),
        }
    batch = make_batch(
        model,
        ids=ids,
        attention_mask=functional.pad(real, (width, 0), value=True),
        labels=labels,
        media=[MediaInput(frames=list(pixels[:, None]), mask=places)],
        **instruction,
    )
    return Reading(batch=batch, stop_ids=_stop_ids(case, family))


def _with_answers(ids: Tensor, real: Tensor, answer: Tensor, answer_real: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each answer, without its start token, between a prompt and the prompt's padding; its real ids are learned.

    Source: LAVIS, blip2_vicuna_instruct.py, ``concat_text_input_output``.
    """
    joined = []
    for row, keep, target, target_keep in zip(ids, real, answer[:, 1:], answer_real[:, 1:]):
        wanted = target.masked_fill(~target_keep, IGNORED_LABEL)
        silent = [torch.full_like(part, IGNORED_LABEL) for part in (row[keep], row[~keep])]
        joined.append(
            (
                torch.cat([row[keep], target, row[~keep]]),
                torch.cat([keep[keep], target_keep, keep[~keep]]),
                torch.cat([silent[0], wanted, silent[1]]),
            )
        )
    ids, real, labels = (torch.stack(column) for column in zip(*joined))
    return ids, real, labels


_WHOLE: dict[str, Any] = {
    "load": _load,
    "embeddings": "lm_inputs_embeds",
    "attention_mask": "lm_attention_mask",
    "num_start_tokens": 1,
}


@whole_model("LAVIS Blip2OPT", **_WHOLE)
def blip2_opt(arguments: Arguments, model: VLM, case: Case) -> Reading:
    return _read(arguments, model, case, "opt_tokenizer", "opt")


@whole_model("LAVIS Blip2VicunaInstruct", labels="lm_labels", **_WHOLE)
def instructblip_vicuna(arguments: Arguments, model: VLM, case: Case) -> Reading:
    return _read(arguments, model, case, "llm_tokenizer", "llama")


@whole_model("LAVIS Blip2T5", "LAVIS Blip2T5Instruct", **_WHOLE)
def blip2_t5(arguments: Arguments, model: VLM, case: Case) -> Reading:
    return _read(arguments, model, case, "t5_tokenizer", "t5")


@part("LAVIS BertLMHeadModel")
@torch.no_grad()
def qformer(case: Case, report: Report) -> None:
    """Queries alone, text alone, both, and text generated from queries; ``image_embeds`` are what the queries read."""
    weights, sizes = open_weights(case.folder), case.config["qformer"]
    queries = case.input("main", "query_tokens")
    words = weights["bert.embeddings.word_embeddings.weight"]
    found = lavis.qformer_sizes({**weights, "queries": queries}, "bert.", "queries")
    body = QFormerBody(
        case.input("main", "image_embeds").shape[-1],
        num_queries=found["num_queries"],
        dim=found["width"],
        num_layers=found["num_layers"],
        num_heads=sizes["heads"],
        intermediate=found["intermediate"],
        cross_attention_every=found["cross_attention_every"],
        has_text=True,
    )
    load_part(
        body,
        {**weights, "queries": queries},
        [("queries", "queries"), *lavis.qformer_names("bert.", "")],
        where=case.folder,
    )
    embeddings = TextEmbeddings(len(words), words.shape[1], len(weights["bert.embeddings.position_embeddings.weight"]))
    names = [("bert.embeddings.word_embeddings.", "words."), ("bert.embeddings.position_embeddings.", "positions.")]
    load_part(embeddings, weights, names, where=case.folder)
    head = WordPrediction(words.shape[1], len(words), epsilon=body.norm.eps)
    names = [
        ("cls.predictions.transform.dense.", "dense."),
        ("cls.predictions.transform.LayerNorm.", "norm."),
        ("cls.predictions.bias", "bias"),
    ]
    load_part(head, weights, names, where=case.folder)

    features = case.input("main", "image_embeds")
    seen = case.probes["main"].inputs.get("image_attention_mask", torch.ones(features.shape[:2])).bool()
    ids, real = case.input("main", "input_ids"), case.input("main", "attention_mask").bool()
    text = embeddings(ids)
    num_queries = body.num_queries
    states = "last_hidden_state"
    if "query_only" in case.probes:
        report.compare("query_only", states, body(features, features_mask=seen))
    if "text_only" in case.probes:
        report.compare("text_only", states, body(None, text=text, mask=real[:, None]), where=real)
    if "query_and_text" in case.probes:
        both = body(features, features_mask=seen, text=text, mask=matching_mask(num_queries, real))
        where = functional.pad(real, (num_queries, 0), value=True)
        report.compare("query_and_text", states, both, where=where)
    generated = body(features, features_mask=seen, text=text, mask=generation_mask(num_queries, real))
    logits = head(generated[:, num_queries:], embeddings.words)
    for probe in ("text_generation", "text_generation_one_pass"):
        if probe in case.probes:
            report.compare(probe, "logits", logits, where=real)
    if "text_generation" in case.probes:
        labels = case.input("main", "labels")
        loss = functional.cross_entropy(
            logits[:, :-1].flatten(0, 1),
            labels[:, 1:].flatten(),
            ignore_index=IGNORED_LABEL,
            label_smoothing=SMOOTHING,
        )
        report.compare("text_generation", "loss", loss)
