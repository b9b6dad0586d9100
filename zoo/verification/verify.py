"""Run a reference's stored inputs through our model and compare with its stored outputs."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.model import VLM
from zoo.verification.case import Case, Probe, read_case
from zoo.verification.registry import Arguments, Loaded, Reading, WholeModel, find
from zoo.verification.report import Difference, Report
from zoo.weights import convert
from zoo.weights.files import open_weights

MAIN = "main"
# Arguments of forwards that change what is returned beside the logits, or how it is computed.
_WITHOUT_EFFECT = {"use_cache", "return_dict", "output_hidden_states", "output_attentions"}


def verify(folder: str | Path, *, tolerance: float | None = None, gradients: bool = False) -> Report:
    """Compare a folder in the format of ``zoo.verification.case`` with what our code makes of it, in float32.

    Args:
        tolerance: the largest difference allowed; None is 1e-4, or the reference's own noise where that is more.
        gradients: the norms of the main loss's gradients too, against grads.json.

    Raises:
        ZooError: the folder cannot be read, its reference is not known, or its checkpoint cannot be loaded.
    """
    case = read_case(folder)
    reference = find(case)
    report = Report(case, tolerance)
    if not isinstance(reference, WholeModel):
        reference(case, report)
        return report
    loaded = reference.load(case)
    report.layout, report.method = loaded.layout.name, f"method {loaded.model.method.name}"
    for probe in case.probes.values():
        # What one probe asks for may be more than our model can; the others are compared all the same.
        try:
            _compare(probe, case, reference, loaded.model, report)
        except ValueError as error:
            report.failed(probe.name, str(error))
    if reference.extra is not None:
        reference.extra(case, loaded.model, report)
    if gradients:
        _compare_gradients(case, reference, loaded, report)
    return report


def _read(probe: Probe, case: Case, reference: WholeModel, model: VLM) -> Reading | None:
    arguments = Arguments(probe)
    reading = reference.read(arguments, model, case)
    if reading is not None:
        arguments.check_all_read()
    return reading


def _compare(probe: Probe, case: Case, reference: WholeModel, model: VLM, report: Report) -> None:
    reading = _read(probe, case, reference, model)
    if reading is None:
        return
    if probe.generates:
        _compare_tokens(probe, reading, reference, model, report)
        return
    if unknown := probe.options.keys() - _WITHOUT_EFFECT:
        raise ZooError(f"no place for forward's arguments {', '.join(sorted(unknown))}")
    batch = reading.batch
    report.compare(probe.name, reference.attention_mask, batch.attention_mask.long())
    report.compare(probe.name, reference.labels, batch.labels)
    with torch.no_grad():
        output = model(batch)
    decodes = batch.decoder_labels is not None
    report.compare(probe.name, "logits", output.logits, where=None if decodes else batch.attention_mask)
    report.compare(probe.name, "loss", output.loss_sum / output.num_supervised)
    with torch.no_grad():
        report.compare(probe.name, reference.embeddings, model.input_embeddings(batch), where=batch.attention_mask)
        soft = model.soft_tokens(batch)
    if soft is None:
        return
    media = soft.media.split(list(soft.counts))
    for names, kinds in (
        (reference.image_tokens, (False,)),
        (reference.video_tokens, (True,)),
        (reference.soft_tokens, (False, True)),
    ):
        chosen = [tokens for tokens, kind in zip(media, batch.is_video, strict=True) if kind in kinds]
        for name in names:
            if chosen:
                report.compare(probe.name, name, torch.cat(chosen), media=reading.media)


def _compare_tokens(probe: Probe, reading: Reading, reference: WholeModel, model: VLM, report: Report) -> None:
    output = next(name for name in ("new_tokens", "sequences") if name in probe.outputs)
    theirs = probe.outputs[output][:, reference.num_start_tokens :]
    options = dict(probe.options)
    # The length that was stored is the longest there can be.
    length = options.pop("max_new_tokens", theirs.shape[1])
    for name in ("max_length", "pad_token_id"):
        options.pop(name, None)
    given = options.pop("eos_token_id", None)
    stop_ids = _as_list(reading.stop_ids or given or model.language_model.model.config.eos_token_id)
    ours = model.generate(reading.batch, max_new_tokens=length, stop_ids=stop_ids or [-1], **options)
    report.compare_tokens(probe.name, output, ours, [_until(row, stop_ids) for row in theirs.tolist()])


def _as_list(ids: object) -> list[int]:
    return [] if ids is None else [ids] if isinstance(ids, int) else list(ids)  # type: ignore[call-overload]


def _until(row: list[int], stop_ids: list[int]) -> list[int]:
    end = next((place for place, token in enumerate(row) if token in stop_ids), len(row))
    return row[:end]


def _compare_gradients(case: Case, reference: WholeModel, loaded: Loaded, report: Report) -> None:
    """Norms of d(mean loss)/d(parameter), relative to the reference's where that is above 1."""
    wanted = case.gradients()
    for name, module in loaded.model.parts():
        module.requires_grad_(name not in reference.frozen)
    reading = _read(case.probes[MAIN], case, reference, loaded.model) if MAIN in case.probes else None
    if reading is None:
        raise ZooError(f"{case.folder} has no probe {MAIN}, whose loss the gradients are of; leave --gradients out")
    output = loaded.model(reading.batch, with_logits=False)
    (output.loss_sum / output.num_supervised).backward()
    gradients = _in_layout(loaded, open_weights(case.folder))
    if unknown := sorted(wanted.keys() - gradients.keys()):
        raise ZooError(f"{case.folder / 'grads.json'} has {unknown[0]}, which the checkpoint lacks; use its keys")
    worst, where = 0.0, ""
    for key, norm in wanted.items():
        distance = abs(gradients[key] - norm) / max(1.0, norm)
        # NaN is worse than any number.
        if not distance <= worst:
            worst, where = distance, f"{key}: {gradients[key]:.6g} for {norm:.6g}"
    report.add(
        Difference(
            probe=MAIN,
            output=f"gradients of {len(wanted)} keys",
            largest=worst,
            limit=report.limit(case.probes[MAIN], "gradients"),
            note=where,
        )
    )


def _in_layout(loaded: Loaded, released: Mapping[str, Tensor]) -> dict[str, float]:
    """Norms of our gradients by the names of the checkpoint.

    Where a layout parts or joins tensors, gradients go back through what it does to them.
    """
    leaves = {key: torch.zeros_like(tensor, dtype=torch.float32).requires_grad_() for key, tensor in released.items()}
    parameters = loaded.model.state_dict(keep_vars=True)
    named = convert(leaves, loaded.layout, "to_canonical")
    reached = [(named[key], parameters[key].grad) for key in named if parameters[key].grad is not None]
    torch.autograd.backward([tensor for tensor, _ in reached], [gradient for _, gradient in reached])
    return {key: 0.0 if leaf.grad is None else float(leaf.grad.double().norm()) for key, leaf in leaves.items()}
