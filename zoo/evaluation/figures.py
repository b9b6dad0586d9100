"""Figures over a set of items as functions of how often each item counts, for ``zoo.evaluation.bootstrap``."""

from collections.abc import Sequence

import numpy as np

from zoo.errors import ZooError
from zoo.evaluation.bootstrap import Figure


def mean_figure(values: Sequence[float]) -> Figure:
    """The mean of the items' scores: CIDEr's too, whose document frequencies stay those of the whole reference set."""
    scores = np.asarray(values, dtype=np.float64)
    return lambda counts: counts @ scores / counts.sum(axis=1)


def f1_figure(labels: Sequence[bool], answers: Sequence[bool]) -> Figure:
    """F1 of the answers that say yes; 0 where no answer that says yes is right, as POPE's figures have it here."""
    label, answer = np.asarray(labels, dtype=bool), np.asarray(answers, dtype=bool)
    both, either = (label & answer).astype(float), label.astype(float) + answer

    def figure(counts: np.ndarray) -> np.ndarray:
        positives = counts @ either
        return 2 * (counts @ both) / np.where(positives > 0, positives, 1.0)

    return figure


def auc_figure(labels: Sequence[bool], scores: Sequence[float]) -> Figure:
    """Area under the ROC curve: the share of pairs of a positive and a negative item in the right order, ties half."""
    order = np.argsort(np.asarray(scores, dtype=np.float64), kind="stable")
    ranked, positive = np.asarray(scores, dtype=np.float64)[order], np.asarray(labels, dtype=bool)[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])

    def figure(counts: np.ndarray) -> np.ndarray:
        sorted_counts = counts[:, order]
        above = np.add.reduceat(sorted_counts * positive, starts, axis=1)  # (draws, levels of the score)
        below = np.add.reduceat(sorted_counts * ~positive, starts, axis=1)
        lower = np.cumsum(below, axis=1) - below
        pairs = above.sum(axis=1) * below.sum(axis=1)
        ordered = (above * (lower + below / 2)).sum(axis=1)
        return np.where(pairs > 0, ordered / np.where(pairs > 0, pairs, 1.0), np.nan)

    return figure


def mme_figure(right: Sequence[bool], images: Sequence[str], subtasks: Sequence[str]) -> Figure:
    """MME's score: 100 (acc + acc+), summed over the subtasks. Draw the images within their subtask.

    Raises ZooError where a subtask's image has not exactly two questions.
    """
    correct, owners = np.asarray(right, dtype=np.float64), np.asarray(subtasks)
    pairs: dict[tuple[str, str], list[int]] = {}
    for at, key in enumerate(zip(subtasks, images, strict=True)):
        pairs.setdefault(key, []).append(at)
    for (subtask, image), places in pairs.items():
        if len(places) != 2:
            raise ZooError(f"MME {subtask}: image {image!r} has {len(places)} questions; an image has two")
    firsts = np.asarray([places[0] for places in pairs.values()])
    both = np.asarray([correct[places].all() for places in pairs.values()], dtype=np.float64)

    def figure(counts: np.ndarray) -> np.ndarray:
        total = np.zeros(len(counts))
        for subtask in np.unique(owners):
            questions, of_pairs = owners == subtask, owners[firsts] == subtask
            asked, shown = counts[:, questions], counts[:, firsts[of_pairs]]
            with np.errstate(invalid="ignore"):
                total += 100 * (asked @ correct[questions]) / asked.sum(axis=1)
                total += 100 * (shown @ both[of_pairs]) / shown.sum(axis=1)
        return total

    return figure
