"""Soft tokens that lie where the words of their caption lie, before any forward of the language model.

Pairs of one batch, contrasted as in CLIP (Radford et al., 2021, section 2.3): a connector that starts at random is
otherwise trained only through a language model, which learns to speak of the data long before it looks at an image.
"""

import torch
import torch.nn.functional as functional
from torch import Tensor

TEMPERATURE = 0.07


def alignment_loss(media: Tensor, counts: tuple[int, ...], words: Tensor, word_medium: Tensor) -> Tensor:
    """InfoNCE both ways between the mean soft token of a medium and the mean embedding of its words, and the square of
    the log of how much longer soft tokens are than words: a language model reads them beside each other.

    Args:
        media: (sum of counts, dim), the soft tokens of all media in order.
        counts: how many each medium has.
        words: (words, dim), embeddings of the words that are said of media.
        word_medium: (words,), the medium that each is said of. A medium without words takes no part.
    """
    token_medium = torch.arange(len(counts), device=media.device).repeat_interleave(
        torch.tensor(counts, device=media.device)
    )
    said = word_medium.unique()
    images = functional.normalize(_means(media.float(), token_medium, len(counts))[said], dim=-1)
    captions = functional.normalize(_means(words.float(), word_medium, len(counts))[said], dim=-1)
    similarities = images @ captions.T / TEMPERATURE  # (media, media)
    target = torch.arange(len(said), device=media.device)
    both_ways = functional.cross_entropy(similarities, target) + functional.cross_entropy(similarities.T, target)
    longer = media.float().norm(dim=-1).mean().log() - words.float().norm(dim=-1).mean().log()
    return both_ways / 2 + longer**2


def _means(rows: Tensor, group: Tensor, num_groups: int) -> Tensor:
    """(rows, dim) -> (num_groups, dim), the mean of each group's rows."""
    sums = rows.new_zeros(num_groups, rows.shape[1]).index_add(0, group, rows)
    sizes = torch.bincount(group, minlength=num_groups).clamp(min=1)
    return sums / sizes[:, None]
