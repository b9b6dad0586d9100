"""LLaMA-VID's tokens: the paper's equations written out, grids of content, what the text changes and what not."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tiny import fill

from zoo.connectors import ConnectorContext, ContextContent
from zoo.errors import ZooError

SIZES = {"num_queries": 3, "width": 8, "num_layers": 2, "num_heads": 2, "dropout": 0.0, "instruction_vocabulary": 20}


def connector(grid=(4, 4), has_class_token=True, **fields):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = ContextContent(**SIZES, **fields).build(
            dim_in=6, dim_out=10, grid=grid, num_features=grid[0] * grid[1] + has_class_token
        )
    # As it begins, the text would change next to nothing.
    return fill(module, 0.3)


def context(num_frames, texts):
    length = max(map(len, texts))
    ids = torch.tensor([text + [0] * (length - len(text)) for text in texts])
    mask = torch.tensor([[True] * len(text) + [False] * (length - len(text)) for text in texts])
    kinds = [frames > 1 for frames in num_frames]
    return ConnectorContext(num_frames=num_frames, is_video=kinds, instruction_ids=ids, instruction_mask=mask)


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_tokens_are_those_of_the_equations():
    module, tokens = connector(), draw(2, 17, 6)
    soft = module(SimpleNamespace(tokens=tokens), context([2], [[4, 5, 6]]))
    text = module.embeddings(torch.tensor([[4, 5, 6]]).repeat(2, 1))
    queries = module.body(module.norm(tokens), text=text, only_queries=True)
    expected = []
    for frame in range(2):
        patches = tokens[frame, 1:]
        asked = [torch.softmax(module.key(patches) @ module.query(q) / 6**0.5, 0) @ patches for q in queries[frame]]
        content = module.content[1](torch.nn.GELU()(module.content[0](patches.mean(0))))
        expected += [module.context(sum(asked) / 3), content]
    torch.testing.assert_close(soft, torch.stack(expected), rtol=0, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize(("squares", "side"), [(2, 2), (3, 1), (4, 1)])
def test_content_is_the_mean_of_each_square(squares, side):
    """With 5 x 5 patches: squares of 2 leave a row and a column over, and 3 a side are as many as 5 of 1."""
    module, tokens = connector(grid=(5, 5), content_grid=squares), draw(1, 26, 6)
    soft = module(SimpleNamespace(tokens=tokens), context([1], [[4, 5]]))
    maps = tokens[0, 1:].view(5, 5, 6)
    count = 5 // side
    means = [
        maps[r * side : (r + 1) * side, c * side : (c + 1) * side].mean((0, 1))
        for r in range(count)
        for c in range(count)
    ]
    expected = module.content[1](torch.nn.GELU()(module.content[0](torch.stack(means))))
    torch.testing.assert_close(soft[1:], expected, rtol=0, atol=1e-6)
    assert module.num_tokens([1, 3], [False, True]) == [1 + count**2, 3 * (1 + count**2)] and len(soft) == 1 + count**2


@torch.no_grad()
def test_only_the_context_token_reads_text_and_class_token():
    module, tokens = connector(), draw(1, 17, 6)
    plain = module(SimpleNamespace(tokens=tokens), context([1], [[4, 5]]))
    other_text = module(SimpleNamespace(tokens=tokens), context([1], [[4, 6]]))
    # The same in all dimensions would not pass the norm.
    moved = tokens.clone()
    moved[0, 0, 0] += 1.0
    other_class = module(SimpleNamespace(tokens=moved), context([1], [[4, 5]]))
    for other in (other_text, other_class):
        assert torch.equal(plain[1], other[1]) and (plain[0] - other[0]).abs().max() > 1e-4


@torch.no_grad()
@pytest.mark.parametrize("has_class_token", [True, False])
def test_media_side_by_side_equal_media_alone(has_class_token):
    module = connector(has_class_token=has_class_token, content_grid=0)
    counts, texts = [2, 1, 3], [[4, 5, 6, 7], [8], [9, 10]]
    tokens = draw(6, 16 + has_class_token, 6)
    alone = [
        module(SimpleNamespace(tokens=x), context([len(x)], [text])) for x, text in zip(tokens.split(counts), texts)
    ]
    together = module(SimpleNamespace(tokens=tokens), context(counts, texts))
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-6)
    assert module.num_tokens(counts, [True, False, True]) == [len(x) for x in alone] == [34, 17, 51]


def test_what_cannot_be_is_refused():
    with pytest.raises(ZooError, match="4 x 4 patches"):
        connector(content_grid=5)
    with pytest.raises(ZooError, match="instruction_vocabulary 20 is below"):
        ContextContent(**SIZES).build(dim_in=6, dim_out=10, grid=(4, 4), num_features=16, instruction_vocabulary=21)
    given = replace(context([1], [[4]]), instruction_ids=None)
    with pytest.raises(ZooError, match="reads the instruction"):
        connector()(SimpleNamespace(tokens=draw(1, 17, 6)), given)
