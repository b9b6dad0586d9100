"""BLEU, ROUGE-L and CIDEr-D on tokenised captions, from their equations, with the conventions of pycocoevalcap.

A caption is its tokens joined by blanks; candidates and references are lists in the same order of images.
"""

import math
from collections import Counter
from collections.abc import Sequence

from zoo.evaluation.metrics.inputs import mean

MAX_N = 4
ROUGE_BETA = 1.2
CIDER_SIGMA = 6.0
CIDER_SCALE = 10.0
# What pycocoevalcap adds to keep fractions finite; BLEU without a common n-gram is a tiny number, not 0.
_TINY, _SMALL = 1e-15, 1e-9

Ngrams = Counter[tuple[str, ...]]
Vectors = list[dict[tuple[str, ...], float]]


def ngrams(caption: str) -> Ngrams:
    """Counts of the caption's n-grams of one to four tokens."""
    words = caption.split()
    return Counter(tuple(words[at : at + n]) for n in range(1, MAX_N + 1) for at in range(len(words) - n + 1))


def bleu(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """Corpus BLEU-1 to BLEU-4 (Papineni et al., 2002): clipped precisions, geometric mean, brevity penalty.

    The effective reference length of an image is the closest one, the shorter of two equally close.
    """
    correct, guessed = [0] * MAX_N, [0] * MAX_N
    candidate_length = reference_length = 0
    for candidate, captions in zip(candidates, references, strict=True):
        length = len(candidate.split())
        candidate_length += length
        lengths = [len(caption.split()) for caption in captions]
        reference_length += min(lengths, key=lambda other: (abs(other - length), other))
        most = Counter()
        for caption in captions:
            most |= ngrams(caption)
        for ngram, count in ngrams(candidate).items():
            correct[len(ngram) - 1] += min(count, most[ngram])
        for n in range(MAX_N):
            guessed[n] += max(0, length - n)
    ratio = (candidate_length + _TINY) / (reference_length + _SMALL)
    penalty = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    scores, product = [], 1.0
    for n in range(MAX_N):
        product *= (correct[n] + _TINY) / (guessed[n] + _SMALL)
        scores.append(product ** (1 / (n + 1)) * penalty)
    return scores


def rouge_l(candidate: str, references: Sequence[str]) -> float:
    """ROUGE-L (Lin, 2004): F with beta 1.2 of the largest precision and the largest recall over references.

    Captions are split at single blanks, so that an empty one has one empty token.
    """
    said = candidate.split(" ")
    common = [
        (longest_common_subsequence(reference.split(" "), said), len(reference.split(" "))) for reference in references
    ]
    precision = max(length / len(said) for length, _ in common)
    recall = max(length / size for length, size in common)
    if not precision or not recall:
        return 0.0
    return (1 + ROUGE_BETA**2) * precision * recall / (recall + ROUGE_BETA**2 * precision)


def longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest sequence that both contain in order."""
    row = [0] * (len(second) + 1)
    for word in first:
        previous = 0
        for at, other in enumerate(second, 1):
            previous, row[at] = row[at], previous + 1 if word == other else max(row[at], row[at - 1])
    return row[-1]


def cider(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """CIDEr-D of every image (Vedantam et al., 2015); the score of the corpus is their mean.

    Per n: cosine of tf-idf vectors where a candidate's weight is clipped to the reference's, times
    exp(-(difference of lengths)^2 / (2 * 6^2)); mean over n and references, times 10. tf is the count, idf is
    log(number of images) - log(number of images with the n-gram in a reference). Length is the number of bigrams, as in
    pycocoevalcap. Document frequencies come from the references given: a subset scores differently, one image alone 0.
    """
    counted = [[ngrams(caption) for caption in captions] for captions in references]
    frequency = Counter(ngram for captions in counted for ngram in set().union(*captions))
    log_images = math.log(len(candidates))

    def vectors(counts: Ngrams) -> tuple[Vectors, list[float], int]:
        weights: Vectors = [{} for _ in range(MAX_N)]
        for ngram, count in counts.items():
            weights[len(ngram) - 1][ngram] = count * (log_images - math.log(max(1, frequency[ngram])))
        norms = [math.sqrt(sum(weight**2 for weight in level.values())) for level in weights]
        return weights, norms, sum(count for ngram, count in counts.items() if len(ngram) == 2)

    scores = []
    for candidate, captions in zip(candidates, counted, strict=True):
        weights, norms, length = vectors(ngrams(candidate))
        similarities = []
        for caption in captions:
            other, other_norms, other_length = vectors(caption)
            penalty = math.exp(-((length - other_length) ** 2) / (2 * CIDER_SIGMA**2))
            for n in range(MAX_N):
                shared = weights[n].keys() & other[n].keys()
                product = sum(min(weights[n][ngram], other[n][ngram]) * other[n][ngram] for ngram in shared)
                scale = norms[n] * other_norms[n]
                similarities.append(penalty * (product / scale if scale else product))
        scores.append(CIDER_SCALE * mean(similarities))
    return scores
