"""Chat-UniVi's checkpoints: those of LLaVA with one linear layer, and how tokens merge in config.json.

Source: PKU-YuanGroup/Chat-UniVi, ChatUniVi/model/arch.py (``config["config"]`` has the rates).
"""

import dataclasses
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from zoo.connectors import TokenMerging
from zoo.definition import Method
from zoo.errors import ZooError
from zoo.weights.layouts import Layout, register_layout
from zoo.weights.llava import CONSTANTS
from zoo.weights.llava_like import PROJECTION, method_on_llava, pair, rules_on_llava


def token_merging(rates: Mapping[str, Any], *, where: Path) -> TokenMerging:
    """The connector, from the rates ``spatial_cluster_rate0`` and so on, and ``temporal_cluster_rate``.

    Raises ZooError for rates below 1 of patches: how many tokens a video takes would depend on what it shows.
    """
    spatial = []
    while (name := f"spatial_cluster_rate{len(spatial)}") in rates:
        if rates[name] <= 1:
            raise ZooError(f"{where}: {name} is {rates[name]}, a share of the patches; give their number instead")
        spatial.append(math.ceil(rates[name]))
    base = TokenMerging()
    neighbours = base.neighbours + base.neighbours[-1:] * len(spatial)
    return dataclasses.replace(
        base,
        num_clusters=tuple(spatial) or base.num_clusters,
        neighbours=neighbours[: len(spatial) or len(base.neighbours)],
        events=float(rates.get("temporal_cluster_rate", base.events)),
    )


def _matches(config: Mapping[str, Any], keys: Collection[str]) -> bool:
    return config.get("model_type") == "ChatUniVi" and f"{PROJECTION}weight" in keys


def _method(config: Mapping[str, Any], folder: Path) -> Method:
    file = folder / "config.json"
    rates = config.get("config", {})
    if not rates.get("use_cluster", True):
        raise ZooError(f"{file}: use_cluster is false, which averages frames and patches; use method video-chatgpt")
    llava = {key: value for key, value in config.items() if key != "config"}
    method = method_on_llava("chat-univi", llava, folder)
    return dataclasses.replace(method, connector=token_merging(rates, where=file))


CHAT_UNIVI_ORIGINAL = register_layout(
    Layout(
        name="chat-univi-original",
        matches=_matches,
        method_from_config=_method,
        **rules_on_llava((pair(PROJECTION, "connector.projection."),)),
        constants=CONSTANTS,
    )
)
