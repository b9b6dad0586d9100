"""Metrics: one answer at a time (``score``), and whole files of predictions by named rules (``get_metric``).

``get_metric("vqa:official")(predictions, references)`` scores files or what they hold, in the official result and
annotation formats; ``zoo score --list`` names every metric with its source.
"""

from zoo.evaluation.metrics.boxes import IOU_THRESHOLD, iou
from zoo.evaluation.metrics.item import DEFAULT_YES_NO_RULE, METRICS, BoxParser, Score, metric_version, score
from zoo.evaluation.metrics.metric import Metric, MetricResult
from zoo.evaluation.metrics.registry import get_metric, list_metrics
from zoo.evaluation.metrics.yes_no import YesNoSummary, summarise_yes_no

__all__ = [
    "DEFAULT_YES_NO_RULE",
    "IOU_THRESHOLD",
    "METRICS",
    "BoxParser",
    "Metric",
    "MetricResult",
    "Score",
    "YesNoSummary",
    "get_metric",
    "iou",
    "list_metrics",
    "metric_version",
    "score",
    "summarise_yes_no",
]
