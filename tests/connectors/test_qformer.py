"""The Q-Former as connector: frames, instructions, and BLIP-2's first stage against transformers' retrieval model."""

import pytest
import torch
from tiny import fill
from transformers import Blip2Config, Blip2ForImageTextRetrieval

from zoo.connectors import ConnectorContext, QFormer
from zoo.connectors.qformer_representation import generation_mask, matching_mask
from zoo.encoders import Features
from zoo.errors import ZooError

SIZES = {"num_queries": 4, "width": 16, "num_layers": 3, "num_heads": 2, "intermediate": 24, "dropout": 0.0}
DIM_IN = 12


def connector(vocabulary=20, **fields):
    config = QFormer(**SIZES | {"instruction_vocabulary": 0} | fields)
    torch.manual_seed(0)
    built = config.build(dim_in=DIM_IN, dim_out=10, grid=(2, 3), num_features=7, instruction_vocabulary=vocabulary - 1)
    return fill(built, 0.3).eval()


def features(frames, seed=0):
    tokens = torch.randn(frames, 7, DIM_IN, generator=torch.Generator().manual_seed(seed))
    return Features(tokens=tokens, grid=(2, 3))


def context(num_frames, ids=None, mask=None):
    kinds = [frames > 1 for frames in num_frames]
    return ConnectorContext(num_frames=num_frames, is_video=kinds, instruction_ids=ids, instruction_mask=mask)


@torch.no_grad()
def test_each_frame_is_read_by_itself():
    model, three = connector(), features(3)
    together = model(three, context([1, 2]))
    assert together.shape == (12, 10) and model.num_tokens([1, 2], [False, True]) == [4, 8]
    for frame in range(3):
        alone = model(Features(tokens=three.tokens[frame : frame + 1], grid=(2, 3)), context([1]))
        torch.testing.assert_close(together[4 * frame : 4 * frame + 4], alone)


@torch.no_grad()
def test_an_instruction_is_read_by_all_frames_of_its_medium_and_padding_by_none():
    model, three = connector(reads_instruction=True), features(3)
    ids = torch.tensor([[3, 5, 0], [7, 8, 9]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    together = model(three, context([2, 1], ids, mask))
    first = model(Features(tokens=three.tokens[:2], grid=(2, 3)), context([2], ids[:1, :2], mask[:1, :2]))
    second = model(Features(tokens=three.tokens[2:], grid=(2, 3)), context([1], ids[1:], mask[1:]))
    torch.testing.assert_close(together, torch.cat([first, second]))
    swapped = model(three, context([2, 1], ids.flip(0), mask.flip(0)))
    assert (swapped - together).abs().max() > 1e-3
    with pytest.raises(ZooError, match="reads the instruction"):
        model(three, context([2, 1]))


def test_a_tokenizer_larger_than_the_embedding_is_refused():
    with pytest.raises(ZooError, match="instruction_vocabulary 10 is below the 19"):
        connector(reads_instruction=True, instruction_vocabulary=10)
    assert connector(reads_instruction=True).embeddings.words.num_embeddings == 20


def test_norm_of_the_features_has_an_epsilon_of_its_own():
    small = features(1).tokens * 1e-3
    centred = small - small.mean(-1, keepdim=True)
    for epsilon in (1e-5, 1e-6):
        norm = connector(norm_epsilon=epsilon).norm
        expected = centred / (centred.square().mean(-1, keepdim=True) + epsilon).sqrt() * norm.weight + norm.bias
        torch.testing.assert_close(norm(small), expected)
        assert norm(small.bfloat16()).dtype == torch.bfloat16, "float32 inside, the encoder's type outside"


def test_who_sees_whom():
    text = torch.tensor([[True, True, False]])
    assert matching_mask(2, text).int().tolist() == [[[1, 1, 1, 1, 0]]]
    expected = [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 0]]
    assert generation_mask(2, text).int().tolist() == [expected]


@torch.no_grad()
def test_queries_in_the_generation_pass_are_as_if_alone():
    model = connector(representation=True)
    tokens, ids = features(2).tokens, torch.tensor([[3, 5, 6], [7, 8, 0]])
    together = model.body(tokens, text=model.embeddings(ids), mask=generation_mask(4, ids != 0))
    torch.testing.assert_close(together[:, :4], model.body(tokens))
    changed = model.body(tokens, text=model.embeddings(ids.flip(1)), mask=generation_mask(4, ids != 0))
    assert (together[:, 4:] - changed[:, 4:]).abs().max() > 1e-3


@torch.no_grad()
def test_scores_equal_transformers_retrieval_model():
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}
    vision = {**sizes, "hidden_size": DIM_IN, "image_size": 14, "patch_size": 7}
    qformer = {**sizes, "vocab_size": 20, "encoder_hidden_size": DIM_IN, "use_qformer_text_input": True}
    reference = Blip2ForImageTextRetrieval(
        Blip2Config(
            vision_config=vision,
            qformer_config={**qformer, "cross_attention_frequency": 2, "max_position_embeddings": 512},
            text_config={"model_type": "opt"},
            num_query_tokens=4,
            image_text_hidden_size=8,
        )
    )
    reference = fill(reference, 0.3).eval()
    model = connector(representation=True, dim_common=8, norm_epsilon=1e-6)
    load(model, reference)
    ids = torch.tensor([[3, 5, 6, 7], [8, 9, 0, 0], [4, 4, 11, 0]])
    pixels = torch.randn(3, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    raw = reference.vision_model(pixels, output_hidden_states=True).hidden_states[-1]
    tokens = model.norm(raw)
    given = {"pixel_values": pixels, "input_ids": ids, "attention_mask": (ids != 0).long()}
    expected = reference(**given, use_image_text_matching_head=True).logits_per_image
    logits = model.heads.matching_logits(model.body, model.embeddings, tokens, ids, ids != 0)
    assert (logits - expected).abs().max() < 1e-5
    expected = reference(**given, use_image_text_matching_head=False).logits_per_image
    scores = model.heads.contrastive_scores(model.body, model.embeddings, tokens, ids, ids != 0)
    assert (scores - expected).abs().max() < 1e-5
    assert scores.std() > 1e-2 and logits.std() > 1e-2


def load(model, reference):
    """Copy the weights of transformers' retrieval model; every weight of ours but ITG's head and the projection."""
    state = reference.state_dict()
    model.norm.load_state_dict({key: state[f"vision_model.post_layernorm.{key}"] for key in ("weight", "bias")})
    model.body.norm.load_state_dict({key: state[f"qformer.layernorm.{key}"] for key in ("weight", "bias")})
    model.body.queries.data.copy_(state["query_tokens"])
    model.embeddings.words.weight.data.copy_(state["embeddings.word_embeddings.weight"])
    model.embeddings.positions.weight.data.copy_(state["embeddings.position_embeddings.weight"])
    for ours, theirs in (("vision_projection",) * 2, ("text_projection",) * 2, ("matching", "itm_head")):
        getattr(model.heads, ours).load_state_dict({key: state[f"{theirs}.{key}"] for key in ("weight", "bias")})
    names = {"query_mlp": ("intermediate_query", "output_query"), "text_mlp": ("intermediate", "output")}
    for number, layer in enumerate(model.body.layers):
        for key, parameter in layer.named_parameters():
            part, leaf, kind = key.split(".")
            if part in names:
                module = names[part][leaf != "up"] + (".LayerNorm" if leaf == "norm" else ".dense")
            else:
                module = "crossattention" if part == "cross_attention" else part
                module += {"output": ".output.dense", "norm": ".output.LayerNorm"}.get(leaf, f".attention.{leaf}")
            parameter.data.copy_(state[f"qformer.encoder.layer.{number}.{module}.{kind}"])


def test_the_three_losses_fall_on_four_pairs():
    torch.manual_seed(0)
    sizes = SIZES | {"width": 32, "num_layers": 2, "instruction_vocabulary": 20, "dim_common": 8}
    model = QFormer(**sizes, representation=True).build(dim_in=DIM_IN, dim_out=10, grid=(2, 3), num_features=7)
    four = features(4)
    ids = torch.tensor([[1, 5, 6, 2], [1, 7, 8, 2], [1, 9, 2, 0], [1, 11, 12, 2]])
    trained = [parameter for key, parameter in model.named_parameters() if not key.startswith("projection")]
    optimizer = torch.optim.AdamW(trained, lr=5e-3, weight_decay=0.0)
    history = []
    for _ in range(140):
        losses = model.representation_losses(four, ids, ids != 0)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        history.append([losses.contrastive.item(), losses.matching.item(), losses.generation.item()])
    # Label smoothing leaves a floor of its own: 0.35 for four pairs, 0.59 for twenty words.
    first, last = history[0], history[-1]
    assert last[0] < 0.4 < first[0] and last[1] < 0.2 < first[1] and last[2] < 0.7 < first[2]
    assert all(parameter.grad is not None for parameter in trained)


@torch.no_grad()
def test_pairs_of_one_image_are_no_negatives_of_each_other():
    model = connector(representation=True)
    ids = torch.tensor([[3, 5, 6], [7, 8, 9], [4, 10, 11]])
    plain = model.representation_losses(features(3), ids, ids != 0)
    torch.manual_seed(0)
    apart = model.representation_losses(features(3), ids, ids != 0, groups=torch.tensor([4, 5, 6]))
    shared = model.representation_losses(features(3), ids, ids != 0, groups=torch.tensor([4, 4, 6]))
    assert float(apart.contrastive) == pytest.approx(float(plain.contrastive))
    assert abs(float(shared.contrastive) - float(plain.contrastive)) > 1e-3
    with pytest.raises(ZooError, match=r"representation=true"):
        connector().representation_losses(features(3), ids, ids != 0)
