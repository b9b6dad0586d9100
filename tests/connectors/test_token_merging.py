"""Token merging: the equations of the paper written out, counts, events in their order, equal tokens."""

import math
from types import SimpleNamespace

import pytest
import torch

from zoo.connectors import ConnectorContext
from zoo.connectors.token_merging import TokenMerging, cluster, merge
from zoo.errors import ZooError


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def peaks(tokens, num_clusters, num_neighbours):
    """One sample, token by token: the centres in their order, and the centre that each token joins."""
    length, dim = tokens.shape
    distance = [[math.dist(a, b) / math.sqrt(dim) for b in tokens.tolist()] for a in tokens.tolist()]
    density = [math.exp(-sum(d**2 for d in sorted(row)[:num_neighbours]) / num_neighbours) for row in distance]
    largest = max(map(max, distance))
    separation = [
        min([distance[i][j] for j in range(length) if density[j] > density[i]], default=largest) for i in range(length)
    ]
    scores = [d * s for d, s in zip(density, separation)]
    centres = sorted(range(length), key=lambda i: -scores[i])[:num_clusters]
    return [
        centres.index(i) if i in centres else min(range(num_clusters), key=lambda c: distance[centres[c]][i])
        for i in range(length)
    ]


@pytest.mark.parametrize(("num_clusters", "num_neighbours", "used"), [(6, 5, 5), (5, 5, 5), (12, 3, 3), (4, 5, 2)])
def test_clusters_are_those_of_the_equations(num_clusters, num_neighbours, used):
    """Fewer clusters than neighbours: half as many neighbours as clusters."""
    tokens = draw(3, 15, 7)
    if used == 2:
        # Of two neighbours the nearest pairs are equally dense; on a line with growing steps none are.
        tokens = torch.tensor([1.0, 2.1, 3.4, 5.0, 7.5, 11.0, 16.0, 24.0])[None, :, None].repeat(3, 1, 7)
    found = cluster(tokens, num_clusters, num_neighbours)
    assert found.tolist() == [peaks(x, num_clusters, used) for x in tokens]
    assert all(set(row) == set(range(num_clusters)) for row in found.tolist())


def test_merged_tokens_are_means():
    tokens = draw(2, 5, 3)
    clusters = torch.tensor([[0, 1, 0, 2, 0], [2, 2, 1, 0, 1]])
    merged = merge(tokens, clusters)
    for row in range(2):
        for number in range(3):
            mean = tokens[row, clusters[row] == number].mean(0)
            torch.testing.assert_close(merged[row, number], mean, rtol=3e-6, atol=1e-6)


def test_equal_tokens_are_told_apart_by_their_order():
    tokens = torch.cat([torch.zeros(1, 4, 2), torch.ones(1, 4, 2)], dim=1)
    found = cluster(tokens, 2, 3)
    assert found.tolist() == [[0] * 4 + [1] * 4] and torch.equal(found, cluster(tokens, 2, 3))
    assert cluster(torch.zeros(1, 6, 2), 1, 1).tolist() == [[0] * 6]


def connector(num_features=16, **fields):
    fields = {"num_clusters": (8, 5, 4), **fields}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TokenMerging(**fields).build(dim_in=6, dim_out=10, grid=(1, num_features), num_features=num_features)


def run(module, tokens, num_frames, is_video):
    return module(SimpleNamespace(tokens=tokens), ConnectorContext(num_frames=num_frames, is_video=is_video))


@torch.no_grad()
def test_an_image_has_the_tokens_of_every_step():
    module, tokens = connector(), draw(1, 16, 6)
    first = merge(tokens, cluster(tokens, 8, 5))
    second = merge(first, cluster(first, 5, 3))
    third = merge(second, cluster(second, 4, 3))
    expected = module.projection(torch.cat([first, second, third], dim=1)[0])
    torch.testing.assert_close(run(module, tokens, [1], [False]), expected, rtol=0, atol=1e-6)


@torch.no_grad()
def test_events_follow_their_first_frames_and_merge_step_by_step():
    """Frames around two means, in turns: the event of the first frame comes first, whichever is denser."""
    module = connector(events=2, event_neighbours=1)
    where = [1, 0, 0, 1, 0]
    tokens = draw(5, 16, 6) + 20.0 * torch.tensor(where)[:, None, None]
    soft = run(module, tokens, [5], [True])
    expected = []
    for event in ([0, 3], [1, 2, 4]):
        level = tokens[event]
        for number, neighbours in ((8, 5), (5, 3), (4, 3)):
            level = merge(level, cluster(level, number, neighbours))
            together = level.flatten(0, 1)[None]
            expected.append(merge(together, cluster(together, number, neighbours))[0])
    torch.testing.assert_close(soft, module.projection(torch.cat(expected)), rtol=0, atol=1e-6)


@torch.no_grad()
def test_media_side_by_side_equal_media_alone():
    module = connector(events=0.5)
    counts, kinds = [3, 1, 4, 2], [True, False, True, False]
    tokens = draw(10, 16, 6)
    alone = [run(module, x, [len(x)], [kind]) for x, kind in zip(tokens.split(counts), kinds)]
    assert module.num_tokens(counts, kinds) == [len(soft) for soft in alone] == [34, 17, 34, 34]
    torch.testing.assert_close(run(module, tokens, counts, kinds), torch.cat(alone), rtol=0, atol=1e-6)


def test_published_sizes():
    module = TokenMerging().build(dim_in=6, dim_out=10, grid=(16, 16), num_features=256)
    assert module.num_tokens([1, 1, 16, 17, 64], [False, True, True, True, True]) == [112, 112, 112, 224, 448]
    # A number of events, where there are as many frames.
    assert [connector(events=5.0).num_events(frames) for frames in (3, 5, 40)] == [3, 5, 5]
    # Smaller images have as many tokens as patches.
    assert connector(num_features=6).num_tokens([1], [False]) == [6 + 5 + 4]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"num_clusters": (4, 8, 2)}, "do not rise"),
        ({"num_clusters": (4, 2)}, "each of the 2 steps"),
        ({"event_neighbours": 0}, "event_neighbours"),
        ({"events": 0.0}, "connector.events is 0"),
    ],
)
def test_sizes_that_cannot_be_are_refused(fields, message):
    with pytest.raises(ZooError, match=message):
        connector(**fields)
