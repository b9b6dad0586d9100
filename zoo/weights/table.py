"""The table of ``zoo weights``: every released checkpoint of registry.yaml, its layout and how that is proven."""

from collections.abc import Mapping
from typing import Any

from zoo.registry import WEIGHT_FORMS, entries
from zoo.weights.published import published_ids

# Layout -> what computed the numbers that ours are compared with, on tiny random weights: by tests beside a class of
# transformers, or by ``zoo verify`` on stored outputs of the original code.
NUMERIC: Mapping[str, str] = {
    "florence-2-hf": "transformers",
    "paligemma-hf": "transformers",
    "blip2-hf": "transformers",
    "blip2-opt-lavis": "LAVIS",
    "idefics-hf": "transformers",
    "instructblip-hf": "transformers",
    "instructblip-vicuna-lavis": "LAVIS",
    "kosmos-2-hf": "transformers",
    "llava-hf": "transformers",
    "llava-next-hf": "transformers",
    "llava-next-video-hf": "transformers",
    "llava-onevision-hf": "transformers",
    "llava-original": "LLaVA",
    "openflamingo": "open_flamingo",
    "video-chatgpt-original": "Video-ChatGPT",
    "video-llama-original": "Video-LLaMA (connector)",
    "video-llava-hf": "transformers",
    "vip-llava-hf": "transformers",
}


def rows() -> list[dict[str, Any]]:
    """A row for each checkpoint: method, id, layout, form, base, and in ``verified`` the proofs that there are.

    ``numeric (X)``: outputs equal those of X; ``keys at full size``: at its published size every key and shape is that
    of transformers' class; ``conversion``: the names alone, both ways without loss.
    """
    at_full_size = frozenset(published_ids())
    found = []
    for method, entry in entries().items():
        for row in entry["weights"]:
            proofs = [f"numeric ({NUMERIC[row['layout']]})"] if row["layout"] in NUMERIC else []
            proofs += ["keys at full size"] if row["id"] in at_full_size else []
            found.append(
                {
                    "method": method,
                    "id": row["id"],
                    "layout": row["layout"],
                    "form": row.get("form", WEIGHT_FORMS[0]),
                    "base": row["base"],
                    "verified": proofs or ["conversion"],
                }
            )
    return found


def render(table: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = ["| id | method | layout | form | verified |", "| --- | --- | --- | --- | --- |"]
    for row in table:
        name = row["id"].rpartition("/")[2] if "://" in row["id"] else row["id"]
        lines.append(f"| {name} | {row['method']} | {row['layout']} | {row['form']} | {', '.join(row['verified'])} |")
    return "\n".join(lines)
