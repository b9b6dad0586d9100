"""Added tokens in rows of their own, so that the base checkpoint's matrices stay as they are, on disk and in training.

The extended layers are still ``nn.Embedding`` and ``nn.Linear`` with the base ``weight`` under its old key; the new
rows live beside it as ``added``.
"""

import torch
import torch.nn.functional as functional
from torch import Tensor, nn


class ExtendedEmbedding(nn.Embedding):
    """Ids below ``first_added`` read ``weight``, the others ``added``."""

    def __init__(self, base: nn.Embedding, added: nn.Parameter, first_added: int) -> None:
        super().__init__(*base.weight.shape, padding_idx=base.padding_idx, _weight=base.weight)
        # nn.Embedding wraps the weight anew; a tied head has to keep the very parameter.
        self.weight = base.weight
        self.added, self.first_added = added, first_added

    def forward(self, input: Tensor) -> Tensor:
        is_added = input >= self.first_added
        base = super().forward(input.masked_fill(is_added, 0))
        added = functional.embedding((input - self.first_added).clamp(min=0), self.added)
        return torch.where(is_added[..., None], added, base)


class ExtendedLinear(nn.Linear):
    """Logits of the first ``first_added`` ids, then those of the added tokens.

    Base rows from ``first_added`` on are padding of the checkpoint that no token of its tokenizer uses.
    """

    def __init__(self, base: nn.Linear, added: nn.Parameter, first_added: int) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = base.in_features, first_added + len(added)
        self.weight, self.bias = base.weight, base.bias
        self.added, self.first_added = added, first_added

    def forward(self, input: Tensor) -> Tensor:
        base = functional.linear(input, self.weight, self.bias)[..., : self.first_added]
        return torch.cat([base, functional.linear(input, self.added)], dim=-1)


def extend(model: nn.Module, num_added: int, first_added: int | None = None) -> None:
    """Give a transformers language model ``num_added`` rows in embedding and head, each the mean of the base rows.

    The mean is what LLaVA's initialize_vision_tokenizer does; a random row would dominate the softmax at first.
    ``first_added`` is the id of the first added token: the size of the tokenizer, at most the number of base rows.
    """
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()

    def rows(weight: Tensor) -> nn.Parameter:
        return nn.Parameter(weight.detach().mean(dim=0, keepdim=True).repeat(num_added, 1))

    first = embedding.num_embeddings if first_added is None else first_added
    assert first <= embedding.num_embeddings, "the tokenizer has more tokens than the model has rows"
    new_embedding = ExtendedEmbedding(embedding, rows(embedding.weight), first)
    model.set_input_embeddings(new_embedding)
    tied = head.weight is embedding.weight
    model.set_output_embeddings(ExtendedLinear(head, new_embedding.added if tied else rows(head.weight), first))
