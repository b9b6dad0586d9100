"""What ``zoo show`` prints: a method's parts, stages and sizes, counted without downloading anything."""

from collections.abc import Callable
from typing import Any

from zoo.config import override, to_dict
from zoo.data.encode import Encoded, encode
from zoo.data.sample import Sample
from zoo.data.templates import get_template
from zoo.definition import get_setting
from zoo.factory import build_model, build_on_meta, configure
from zoo.registry import entry, get_method
from zoo.training.tuning import part_table, set_trainable


def describe(name: str, setting: str | None = None, overrides: list[str] | None = None) -> dict[str, Any]:
    """Facts on a method as plain values: registry entry, config, parameters by part and stage, visual tokens.

    Raises:
        ZooError: unknown method, setting or key.
    """
    method, overrode = get_method(name), []
    if setting is not None:
        method, overrode = method.under(get_setting(setting))
    method = override(method, overrides or [])
    model = build_on_meta(method)
    parameters = {part: sum(p.numel() for p in module.parameters()) for part, module in model.parts()}
    stages = []
    for stage in method.stages:
        set_trainable(model, stage)
        rows = part_table(model, stage)
        stages.append(
            {
                **to_dict(stage),
                "trainable": {part: trainable for part, _, _, trainable, _ in rows if trainable},
            }
        )
    return {
        "name": name,
        **{key: value for key, value in entry(name).items() if key != "module"},
        "setting": setting,
        "overrode": overrode,
        "parts": {
            part: {"config": to_dict(config) if config is not None else None, "parameters": parameters.get(part, 0)}
            for part, config in (
                ("encoder", method.encoder),
                ("connector", method.connector),
                ("fusion", method.fusion),
                ("language_model", method.language_model),
            )
        },
        "template": method.template,
        "visual_tokens_per_image": model.num_image_tokens(),
        "stages": stages,
    }


def render(facts: dict[str, Any]) -> str:
    """The facts as text."""
    paper = facts["paper"]
    lines = [
        f"{facts['name']} ({facts['family']}): {facts['summary']}",
        f"paper: {paper['title']}, {paper['authors']} {paper['year']}, arXiv {paper['arxiv'] or '-'}",
        f"code: {facts['code'] or '-'}",
        f"handles: {', '.join(facts['capabilities']) or 'text only'}",
        f"template: {facts['template']}   visual tokens per image: {facts['visual_tokens_per_image']}",
        "",
        f"{'part':<16}{'parameters':>16}  config",
    ]
    for part, row in facts["parts"].items():
        shown = {key: value for key, value in (row["config"] or {}).items() if value not in (None, "", {}, [])}
        text = ", ".join(f"{key} {value}" for key, value in shown.items()) if row["config"] else "none"
        lines.append(f"{part:<16}{row['parameters']:>16,}  {text}")
    for stage in facts["stages"]:
        amount = f"{stage['steps']} steps" if stage["steps"] is not None else f"{stage['epochs']:g} epochs"
        trained = ", ".join(f"{part} {count:,}" for part, count in stage["trainable"].items())
        lines += [
            "",
            f"stage {stage['name']}: {stage['data']}, {amount} at batch {stage['batch']}, lr {stage['lr']:g}",
            f"  trainable parameters: {trained}",
        ]
    if facts["overrode"]:
        lines += ["", f"fixed by setting {facts['setting']}:", *(f"  {line}" for line in facts["overrode"])]
    lines += ["", "released weights:" if facts["weights"] else "released weights: none"]
    for row in facts["weights"]:
        lines.append(f"  {row['id']} ({row['layout']}, {row['licence']}) on {', '.join(row['base'])}")
    lines += ["", "published results:" if facts["published"] else "published results: none recorded"]
    for row in facts["published"]:
        lines.append(f"  {row['benchmark']}: {row['metric']} {row['value']:g} ({row['variant']}; {row['source']})")
    return "\n".join(lines)


def length_check(name: str, setting: str | None = None) -> Callable[[Sample], Encoded]:
    """A function that encodes a sample as the last stage of a method would, to find answers that are cut off.

    Media are not decoded; the frames of a video are counted, and chosen as the method does.
    """
    method = configure(name, setting)
    model = build_model(method, pretrained=False)
    stage = method.stages[-1]
    template = get_template(stage.template or method.template)
    preprocessor = model.preprocessor()

    def check(sample: Sample) -> Encoded:
        return encode(
            sample,
            template,
            model.language_model.tokenizer,
            num_media_tokens=preprocessor.num_media_tokens(sample),
            max_length=stage.max_length,
            box_text=lambda box: "[0.00, 0.00, 0.00, 0.00]",
            region_prompt=preprocessor.region_prompt,
            encoder_decoder=preprocessor.encoder_decoder,
        )

    return check
