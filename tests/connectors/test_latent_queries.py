"""Kosmos-2's connector against its equation, written for one query and one head at a time, and what it does not mix."""

import math

import pytest
import torch
from tiny import fill

from zoo.connectors.base import ConnectorContext
from zoo.connectors.latent_queries import LatentQueries
from zoo.encoders.vision import Features
from zoo.errors import ZooError

CONFIG = LatentQueries(num_queries=3, num_heads=2, dropout=0.0)
SIZES = {"dim_in": 6, "dim_out": 8, "grid": (2, 2), "num_features": 5}


@pytest.fixture
def connector():
    torch.manual_seed(0)
    return fill(CONFIG.build(**SIZES), 0.3)


def features(num_frames, seed=0):
    return Features(tokens=torch.randn(num_frames, 5, 6, generator=torch.Generator().manual_seed(seed)), grid=(2, 2))


def context(num_frames):
    return ConnectorContext(num_frames=num_frames, is_video=[n > 1 for n in num_frames])


@torch.no_grad()
def test_equals_its_equation(connector):
    seen = features(2)
    found = connector(seen, context([2]))
    assert found.shape == (6, 8) and connector.num_tokens([2, 1], [True, False]) == [6, 3]
    for frame in range(2):
        sources = [connector.dense(token / token.square().sum().sqrt()) for token in seen.tokens[frame]]
        sources += list(connector.latents)
        for number, latent in enumerate(connector.latents):
            read = []
            for head in (slice(0, 4), slice(4, 8)):
                query = connector.query(latent)[head]
                scores = torch.stack([query @ connector.key(source)[head] / math.sqrt(4) for source in sources])
                values = torch.stack([connector.value(source)[head] for source in sources])
                read.append(scores.exp() / scores.exp().sum() @ values)
            expected = connector.output(torch.cat(read))
            assert (found[3 * frame + number] - expected).abs().max() < 1e-5
    assert (found[:3] - found[3:]).abs().max() > 1e-2, "the frames have to differ to show a mix-up"


@torch.no_grad()
def test_scale_of_the_features_does_not_matter_and_latents_do(connector):
    seen = features(1)
    before = connector(seen, context([1]))
    louder = Features(tokens=seen.tokens * torch.rand(1, 5, 1).add(0.5), grid=(2, 2))
    assert torch.allclose(connector(louder, context([1])), before, atol=1e-6)
    connector.latents[2] += 1.0
    assert (connector(seen, context([1]))[:2] - before[:2]).abs().max() > 1e-3, "queries see each other"


def test_dropout_in_training_only(connector):
    connector.dropout = 0.5
    seen = features(1)
    torch.manual_seed(0)
    assert torch.equal(connector.eval()(seen, context([1])), connector(seen, context([1])))
    assert not torch.equal(connector.train()(seen, context([1])), connector(seen, context([1])))


def test_every_weight_gets_a_gradient(connector):
    connector(features(2), context([1, 1])).square().sum().backward()
    for name, parameter in connector.named_parameters():
        # A bias of the keys shifts all scores of a query alike.
        assert name == "key.bias" or parameter.grad.abs().max() > 1e-4, name


def test_heads_that_do_not_fit():
    with pytest.raises(ZooError, match=r"num_heads 32 does not divide the language model's width 48"):
        LatentQueries().build(dim_in=6, dim_out=48, grid=(2, 2), num_features=5)
