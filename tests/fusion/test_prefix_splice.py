"""Who sees whom in the prompt of a prefix language model, and that the language model is told so."""

import pytest
import torch
from tiny import llama, t5

from zoo.errors import ZooError
from zoo.fusion import PrefixSplice
from zoo.fusion.prefix_splice import prefix_attention
from zoo.language.model import LanguageModel
from zoo.verification.inputs import blank_batch


def seen(mask):
    return ["".join("x" if allowed else "." for allowed in row) for row in mask.tolist()]


def batch(labels, **fields):
    labels = torch.tensor(labels)
    return blank_batch(tuple(labels.shape), labels=labels, **fields)


def test_the_prefix_ends_at_the_first_learned_place():
    """A second question behind the answer is read forwards only."""
    first, second = prefix_attention(batch([[-100, -100, 7, -100, 8], [-100] * 5]))
    assert seen(first) == ["xx...", "xx...", "xxx..", "xxxx.", "xxxxx"]
    assert seen(second) == ["xxxxx"] * 5


def test_padding_is_no_prefix():
    real = torch.tensor([[False, True, True, True], [True, True, False, False]])
    left, right = prefix_attention(batch([[-100, -100, -100, 7], [-100] * 4], attention_mask=real))
    assert seen(left) == ["x...", ".xx.", ".xx.", ".xxx"]
    assert seen(right) == ["xx..", "xx..", "..x.", "...x"]


def test_documents_have_prefixes_of_their_own():
    documents = torch.tensor([[0, 0, 0, 1, 1, 1, -1]])
    labels = [[-100, -100, 5, -100, -100, 6, -100]]
    (mask,) = prefix_attention(batch(labels, documents=documents, attention_mask=documents >= 0))
    assert seen(mask) == ["xx.....", "xx.....", "xxx....", "...xx..", "...xx..", "...xxx.", "......x"]


def test_a_given_prefix_counts():
    given = torch.tensor([[True, True, True, False]])
    (mask,) = prefix_attention(batch([[-100, 7, 7, 7]], prefix_mask=given))
    assert seen(mask) == ["xxx.", "xxx.", "xxx.", "xxxx"]


@torch.no_grad()
def test_the_language_model_reads_the_prefix_in_both_directions():
    model = LanguageModel(llama(20).eval(), None)
    fusion = PrefixSplice().build(dim_media=32, language_model=model)
    assert not fusion.state_dict()
    words = torch.randn(1, 5, 32, generator=torch.Generator().manual_seed(0))
    rows = batch([[-100, -100, -100, 4, 5]])

    def logits(inputs):
        with fusion.reading(None, rows):
            return model.model(inputs_embeds=inputs).logits[0]

    plain = logits(words)
    for place, first_changed in ((2, 0), (3, 3), (4, 4)):
        other = words.clone()
        other[0, place] += 1.0
        changed = (logits(other) - plain).abs().amax(-1) > 1e-5
        assert changed.tolist() == [number >= first_changed for number in range(5)]
    # Outside, and in the steps of a generation, nothing is changed.
    assert not torch.equal(model.model(inputs_embeds=words).logits[0], plain)


def test_what_it_cannot_do():
    with pytest.raises(ZooError, match="for decoders"):
        PrefixSplice().build(dim_media=32, language_model=LanguageModel(t5(20), None))
    model = LanguageModel(llama(20), None)
    model.model.config.sliding_window = 4
    fusion = PrefixSplice().build(dim_media=32, language_model=model)
    with pytest.raises(ZooError, match="longer than its sliding window 4"), fusion.reading(None, batch([[-100] * 5])):
        pass
