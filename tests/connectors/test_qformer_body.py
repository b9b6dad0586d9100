"""The Q-Former's network against LAVIS: values made by running its code (deterministic fill), and its masks."""

import math

import pytest
import torch

from zoo.connectors.qformer_body import QFormerBody, TextEmbeddings
from zoo.connectors.qformer_representation import RepresentationHeads, generation_mask, matching_mask

BEGIN = 19

# Names of LAVIS (BertLMHeadModel) -> names here, below "bert.encoder.layer.N.".
LAYER_NAMES = {
    "attention.self.": "attention.",
    "attention.output.dense.": "attention.output.",
    "attention.output.LayerNorm.": "attention.norm.",
    "crossattention.self.": "cross_attention.",
    "crossattention.output.dense.": "cross_attention.output.",
    "crossattention.output.LayerNorm.": "cross_attention.norm.",
    "intermediate_query.dense.": "query_mlp.up.",
    "output_query.dense.": "query_mlp.down.",
    "output_query.LayerNorm.": "query_mlp.norm.",
    "intermediate.dense.": "text_mlp.up.",
    "output.dense.": "text_mlp.down.",
    "output.LayerNorm.": "text_mlp.norm.",
}
OTHER_NAMES = {
    "bert.embeddings.LayerNorm.": "body.norm.",
    "bert.embeddings.word_embeddings.": "embeddings.words.",
    "bert.embeddings.position_embeddings.": "embeddings.positions.",
    "cls.predictions.bias": "heads.words.bias",
    "cls.predictions.transform.dense.": "heads.words.dense.",
    "cls.predictions.transform.LayerNorm.": "heads.words.norm.",
}


def official_name(key):
    """Our name as LAVIS spells it."""
    if key.startswith("body.layers."):
        number, rest = key.removeprefix("body.layers.").split(".", 1)
        names = {ours: f"bert.encoder.layer.{number}.{theirs}" for theirs, ours in LAYER_NAMES.items()}
        key = rest
    else:
        names = {ours: theirs for theirs, ours in OTHER_NAMES.items()}
    ours = max((prefix for prefix in names if key.startswith(prefix)), key=len)
    return names[ours] + key.removeprefix(ours)


def wave(*shape, step, start):
    """sin(step * i + start) over the flat index."""
    values = torch.sin(step * torch.arange(math.prod(shape), dtype=torch.float64) + start)
    return values.reshape(shape)


@pytest.fixture(scope="module")
def golden():
    """Vocabulary 20, width 16, two layers, cross-attention in the first, three queries: filled by the rule."""
    options = {"dim": 16, "num_layers": 2, "num_heads": 2, "intermediate": 24, "has_text": True, "dropout": 0.0}
    parts = torch.nn.ModuleDict(
        {
            "body": QFormerBody(12, num_queries=3, cross_attention_every=2, **options),
            "embeddings": TextEmbeddings(20, 16, 12),
            "heads": RepresentationHeads(16, 20),
        }
    ).double()
    others = ("body.queries", "heads.vision_projection", "heads.text_projection", "heads.matching", "heads.temperature")
    filled = {key: value for key, value in parts.state_dict().items() if not key.startswith(others)}
    assert len(filled) == 63
    with torch.no_grad():
        for number, key in enumerate(sorted(filled, key=official_name)):
            values = 0.1 * wave(*filled[key].shape, step=0.37, start=1.3 * number)
            filled[key].copy_(values + (1.0 if key.endswith("norm.weight") else 0.0))
        parts["body"].queries.copy_(wave(1, 3, 16, step=0.11, start=0.9))
    return parts.eval()


@pytest.fixture(scope="module")
def image():
    return wave(2, 5, 12, step=0.17, start=0.1)


@pytest.fixture(scope="module")
def text():
    ids = torch.tensor([[BEGIN, 5, 7, 9], [BEGIN, 4, 3, 0]])
    return ids, ids != 0


def check(output, head, tail, total, absolute):
    flat = output.flatten()
    assert flat[:6].tolist() == pytest.approx(head, abs=1e-6)
    assert flat[-3:].tolist() == pytest.approx(tail, abs=1e-6)
    assert float(flat.sum()) == pytest.approx(total, abs=1e-5)
    assert float(flat.abs().sum()) == pytest.approx(absolute, abs=1e-5)


@torch.no_grad()
def test_queries_alone(golden, image):
    check(
        golden["body"](image),
        [-0.803261, -0.183400, -1.048682, 1.105818, -0.432316, 1.092358],
        [-0.029354, 2.442203, 1.424670],
        -0.882205,
        78.099168,
    )


@torch.no_grad()
def test_text_alone(golden, text):
    ids, mask = text
    check(
        golden["body"](None, text=golden["embeddings"](ids), mask=mask[:, None]),
        [1.358338, -0.330807, -0.129163, -0.378635, -1.563305, -0.327080],
        [0.984977, 0.426786, 1.330438],
        3.091752,
        108.654170,
    )


@torch.no_grad()
def test_queries_beside_text(golden, image, text):
    ids, mask = text
    embedded, visible = golden["embeddings"](ids), matching_mask(3, mask)
    queries = golden["body"](image, text=embedded, mask=visible, only_queries=True)
    check(
        queries,
        [-0.801587, -0.448675, -1.149371, 0.902939, -0.631867, 1.059461],
        [0.043723, 2.463954, 1.422093],
        -0.861045,
        77.127541,
    )
    torch.testing.assert_close(golden["body"](image, text=embedded, mask=visible)[:, :3], queries)


@torch.no_grad()
def test_text_written_from_the_queries(golden, image, text):
    ids, mask = text
    states = golden["body"](image, text=golden["embeddings"](ids), mask=generation_mask(3, mask))
    logits = golden["heads"].words(states[:, 3:], golden["embeddings"].words)
    check(
        logits,
        [0.624080, 0.361203, 0.051026, -0.266138, -0.549019, -0.760762],
        [0.753397, 0.529347, 0.236057],
        15.706645,
        101.319073,
    )
    losses = golden["heads"].losses(golden["body"], golden["embeddings"], image, ids, mask, begin_id=BEGIN)
    assert float(losses.generation) == pytest.approx(3.833286, abs=1e-6)


@torch.no_grad()
def test_a_mask_over_the_features_equals_leaving_them_out(golden, image):
    visible = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    masked = golden["body"](image, features_mask=visible)
    torch.testing.assert_close(masked[:1], golden["body"](image[:1]))
    torch.testing.assert_close(masked[1:], golden["body"](image[1:, :3]))
    assert (masked[1] - golden["body"](image)[1]).abs().max() > 1e-3


def test_number_of_parameters_as_published():
    def count(**options):
        with torch.device("meta"):
            body = QFormerBody(1408, **options)
            return sum(p.numel() for p in body.parameters()) - body.queries.numel()

    assert count() == 105_137_664
    assert count(has_text=True) == 161_825_280
    with torch.device("meta"):
        embeddings = TextEmbeddings(30523, 768)
    assert count(has_text=True) + sum(p.numel() for p in embeddings.parameters()) == 185_660_160
