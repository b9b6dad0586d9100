"""BLIP-2's first stage: the Q-Former learns from image-text pairs before any language model is there.

Three losses of weight 1 on the same queries: contrastive (ITC), matching (ITM) and generation (ITG). They differ in who
sees whom: queries and text apart, all of both, or the text the queries and what stands before it.

Source: BLIP-2 (Li et al., 2023), section 3.2; LAVIS, lavis/models/blip2_models/blip2_qformer.py.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from zoo.connectors.qformer_body import QFormerBody, TextEmbeddings, initialise

SMOOTHING = 0.1
_OWN_PAIR = -10000.0


@dataclass(frozen=True, kw_only=True)
class RepresentationLosses:
    """Scalars, each a mean over the batch (ITG: over the words)."""

    contrastive: Tensor
    matching: Tensor
    generation: Tensor

    @property
    def total(self) -> Tensor:
        return self.contrastive + self.matching + self.generation


def matching_mask(num_queries: int, text_mask: Tensor) -> Tensor:
    """All of queries and text see all but the padding: text_mask (batch, length) -> (batch, 1, queries + length)."""
    return functional.pad(text_mask, (num_queries, 0), value=True)[:, None]


def generation_mask(num_queries: int, text_mask: Tensor) -> Tensor:
    """Queries see queries; text sees all queries and the text up to itself, padding left out.

    The queries therefore come out as if they were alone. (batch, length) -> (batch, queries + length, same).
    """
    length = num_queries + text_mask.shape[1]
    visible = torch.ones(length, length, dtype=torch.bool, device=text_mask.device).tril()
    visible[:num_queries, :num_queries] = True
    return visible & matching_mask(num_queries, text_mask)


class WordPrediction(nn.Module):
    """BERT's language modelling head: dense, activation, LayerNorm, then the words themselves as classes."""

    def __init__(self, dim: int, vocabulary: int, *, epsilon: float) -> None:
        super().__init__()
        self.dense = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim, eps=epsilon)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        initialise(self, dim)

    def forward(self, states: Tensor, words: nn.Embedding) -> Tensor:
        """(batch, length, dim) -> logits (batch, length, vocabulary)."""
        return functional.linear(self.norm(functional.gelu(self.dense(states))), words.weight, self.bias)


class RepresentationHeads(nn.Module):
    """What the first stage has beside the Q-Former; the second stage leaves it behind.

    Texts are ids (batch, length) that begin with a token of their own ([CLS]) and are padded on the right, with a mask
    (batch, length) bool. ``begin_id`` ([DEC]) replaces that first token where the text is to be generated.
    """

    def __init__(
        self, dim: int, vocabulary: int, *, dim_common: int = 256, temperature: float = 0.07, epsilon: float = 1e-12
    ) -> None:
        super().__init__()
        self.vision_projection = nn.Linear(dim, dim_common)
        self.text_projection = nn.Linear(dim, dim_common)
        self.matching = nn.Linear(dim, 2)
        self.temperature = nn.Parameter(torch.tensor(temperature))
        self.words = WordPrediction(dim, vocabulary, epsilon=epsilon)

    def similarity(self, queries: Tensor, first_token: Tensor) -> Tensor:
        """queries (images, queries, dim), first_token (texts, dim) -> (images, texts), not divided by temperature.

        The cosine of the text and the query that is nearest to it.
        """
        image = functional.normalize(self.vision_projection(queries), dim=-1)
        text = functional.normalize(self.text_projection(first_token), dim=-1)
        return torch.einsum("iqd,td->itq", image, text).amax(dim=-1)

    def contrastive_scores(
        self, body: QFormerBody, embeddings: TextEmbeddings, features: Tensor, ids: Tensor, mask: Tensor
    ) -> Tensor:
        """Similarity of every image to every text, (images, texts): the first half of retrieval."""
        text = body(None, text=embeddings(ids), mask=mask[:, None])
        return self.similarity(body(features), text[:, 0])

    def matching_logits(
        self, body: QFormerBody, embeddings: TextEmbeddings, features: Tensor, ids: Tensor, mask: Tensor
    ) -> Tensor:
        """(pairs, 2) for image i beside text i; index 1 is a match. The mean over the queries of a linear layer."""
        queries = body(features, text=embeddings(ids), mask=matching_mask(body.num_queries, mask), only_queries=True)
        return self.matching(queries).mean(dim=1)

    def losses(
        self,
        body: QFormerBody,
        embeddings: TextEmbeddings,
        features: Tensor,
        ids: Tensor,
        mask: Tensor,
        *,
        begin_id: int,
        groups: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> RepresentationLosses:
        """The three losses of a batch of pairs; the other pairs of the batch are the negatives.

        Args:
            features: (batch, tokens, dim_in), normalised.
            groups: (batch,) which image a pair has: pairs of the same image are no negatives of each other. None: all
                images differ.
            generator: draws the hard negatives.
        """
        number = torch.arange(len(ids), device=ids.device)
        groups = number if groups is None else groups
        same = groups[:, None] == groups

        # One pass gives generation and, since queries do not see the text in it, the queries alone.
        begun = torch.cat([ids.new_full((len(ids), 1), begin_id), ids[:, 1:]], dim=1)
        together = body(features, text=embeddings(begun), mask=generation_mask(body.num_queries, mask))
        queries, written = together[:, : body.num_queries], together[:, body.num_queries :]
        words = begun[:, 1:][mask[:, 1:]]
        logits = self.words(written[:, :-1][mask[:, 1:]], embeddings.words)
        generation = functional.cross_entropy(logits.float(), words, label_smoothing=SMOOTHING, reduction="sum")
        generation = generation / max(len(words), 1)  # texts may be empty

        first_token = body(None, text=embeddings(ids), mask=mask[:, None])[:, 0]
        scores = self.similarity(queries, first_token).float() / self.temperature.float()  # (images, texts)
        targets = (1 - SMOOTHING) * same / same.sum(dim=1, keepdim=True) + SMOOTHING / len(ids)
        contrastive = (functional.cross_entropy(scores, targets) + functional.cross_entropy(scores.T, targets)) / 2

        hard = scores.detach().masked_fill(same, _OWN_PAIR)
        other_text = torch.multinomial(hard.softmax(dim=1), 1, generator=generator)[:, 0]
        other_image = torch.multinomial(hard.T.softmax(dim=1), 1, generator=generator)[:, 0]
        image_of = torch.cat([number, other_image, number])
        text_of = torch.cat([number, number, other_text])
        logits = self.matching_logits(body, embeddings, features[image_of], ids[text_of], mask[text_of])
        is_match = torch.cat([torch.ones_like(number), torch.zeros_like(number), torch.zeros_like(number)])
        matching = functional.cross_entropy(logits.float(), is_match)
        return RepresentationLosses(contrastive=contrastive, matching=matching, generation=generation)
