"""The metrics by name."""

from zoo.errors import ZooError, nearest
from zoo.evaluation.metrics import (
    boxes,
    captions,
    exact_match,
    judged,
    mmbench,
    mme,
    mmvp,
    mvbench,
    ranking,
    roc_auc,
    scienceqa,
    seed_bench,
    video_qa,
    vqa,
    yes_no,
)
from zoo.evaluation.metrics.metric import Metric

_MODULES = (
    vqa,
    exact_match,
    yes_no,
    mme,
    mmbench,
    seed_bench,
    mmvp,
    scienceqa,
    captions,
    boxes,
    roc_auc,
    ranking,
    video_qa,
    mvbench,
    judged,
)
_METRICS = {metric.full_name: metric for module in _MODULES for metric in module.SCORERS}


def list_metrics() -> list[Metric]:
    """Every metric and variant; the first variant of a name is the one that the name alone means."""
    names = list(dict.fromkeys(metric.name for metric in _METRICS.values()))
    return sorted(_METRICS.values(), key=lambda metric: names.index(metric.name))


def get_metric(name: str) -> Metric:
    """A metric by ``name`` (its first variant) or ``name:variant``; case and hyphens do not matter.

    Raises ZooError with the nearest known name.
    """
    name = name.lower().replace("-", "_")
    if name in _METRICS:
        return _METRICS[name]
    base, separator, variant = name.partition(":")
    variants = [metric for metric in _METRICS.values() if metric.name == base]
    if variants and not separator:
        return variants[0]
    if variants:
        known = ", ".join(metric.variant for metric in variants)
        raise ZooError(f"metric {base!r} has no variant {variant!r}; it has {known}")
    raise ZooError(f"unknown metric {base!r}.{nearest(base, sorted({metric.name for metric in _METRICS.values()}))}")
