import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AttentionInterface,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    SiglipVisionConfig,
    SiglipVisionModel,
    T5Config,
    T5ForConditionalGeneration,
)
from transformers.masking_utils import AttentionMaskInterface
from transformers.models.blip_2.modeling_blip_2 import Blip2QFormerModel, Blip2VisionModel

from zoo.attention import AttentionMask, attend, register, use, why_not_xformers
from zoo.attention.inputs import Options, prepare
from zoo.attention.mask import import_xformers
from zoo.attention.xformers import lay_out
from zoo.errors import ZooError

BATCH, HEADS, DIM = 3, 4, 8


def tensors(queries, keys, *, kv_heads=HEADS, seed=0, batch=BATCH, dtype=torch.float32, device="cpu", grad=False):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(batch, HEADS, queries, DIM), (batch, kv_heads, keys, DIM), (batch, kv_heads, keys, DIM)]
    made = [torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes]
    return [tensor.requires_grad_(grad) for tensor in made]


def padding(*lengths, keys, side):
    place = torch.arange(keys).expand(len(lengths), -1)
    length = torch.tensor(lengths)[:, None]
    return place < length if side == "right" else place >= keys - length


SELF_DOCUMENTS = torch.tensor([[0, 0, 0, 1, 1, -1, -1], [5, 5, 5, 5, 5, 5, 5], [-1, 3, 3, 2, 2, 2, 4]])
SCATTERED_DOCUMENTS = torch.tensor([[0, 1, 0, 1, 1, -1, 0], [2, 2, 9, 9, 2, 2, 9], [-1, -1, -1, -1, -1, -1, -1]])
CROSS_QUERIES = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 2, 2, -1], [7, 7, 7, 8, 8]])
CROSS_KEYS = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1, 1], [0, 0, 2, 2, 2, 2, 2, -1, -1], [-1, 7, 7, 8, 8, 8, 9, 9, 9]])

# name: (mask, queries, keys)
MASKS = {
    "none": (None, 5, 7),
    "bidirectional": (AttentionMask(), 5, 7),
    "causal": (AttentionMask(causal=True), 7, 7),
    "causal with a past": (AttentionMask(causal=True), 3, 7),
    "causal, one query": (AttentionMask(causal=True), 1, 7),
    "causal, more queries than keys": (AttentionMask(causal=True), 7, 4),
    "padding right": (AttentionMask(key_padding=padding(4, 7, 1, keys=7, side="right")), 5, 7),
    "padding left": (AttentionMask(key_padding=padding(4, 7, 0, keys=7, side="left")), 7, 7),
    "causal padding right": (AttentionMask(causal=True, key_padding=padding(4, 7, 1, keys=7, side="right")), 7, 7),
    "causal padding left": (AttentionMask(causal=True, key_padding=padding(4, 7, 0, keys=7, side="left")), 7, 7),
    "causal padding with a past": (
        AttentionMask(causal=True, key_padding=padding(2, 7, 5, keys=7, side="left")),
        3,
        7,
    ),
    "documents": (AttentionMask.from_documents(SELF_DOCUMENTS), 7, 7),
    "causal documents": (AttentionMask.from_documents(SELF_DOCUMENTS, causal=True), 7, 7),
    "causal documents with a past": (
        AttentionMask.from_documents(SELF_DOCUMENTS[:, -3:], SELF_DOCUMENTS, causal=True),
        3,
        7,
    ),
    "causal scattered documents": (AttentionMask.from_documents(SCATTERED_DOCUMENTS, causal=True), 7, 7),
    "cross documents": (AttentionMask.from_documents(CROSS_QUERIES, CROSS_KEYS), 5, 9),
    "causal cross documents": (AttentionMask.from_documents(CROSS_QUERIES, CROSS_KEYS, causal=True), 5, 9),
    "nothing real": (AttentionMask(key_padding=torch.zeros(BATCH, 7, dtype=torch.bool)), 5, 7),
    "dense": (AttentionMask.from_dense(torch.rand(BATCH, HEADS, 5, 7, generator=torch.manual_seed(3)) > 0.7), 5, 7),
}
masks = pytest.mark.parametrize(("mask", "queries", "keys"), MASKS.values(), ids=MASKS.keys())


def by_hand(query, key, value, mask, bias=None):
    """Attention as a loop over queries, with the rules of AttentionMask's docstring spelled out one pair at a time."""
    batch, heads, queries, _ = query.shape
    keys, group = key.shape[2], heads // key.shape[1]
    output = torch.zeros(batch, heads, queries, value.shape[3], dtype=query.dtype)

    def sees(row, head, i, j):
        if mask is None:
            return True
        if mask.allowed is not None:
            return bool(mask.allowed[row, head, i, j])
        if mask.key_padding is not None:
            position = i + keys - queries
            if not mask.key_padding[row, j] or (mask.causal and not mask.key_padding[row, position]):
                return False
        if mask.key_documents is not None:
            mine, theirs = mask.query_documents[row], mask.key_documents[row]
            if mine[i] < 0 or mine[i] != theirs[j]:
                return False
            later = int((mine[i + 1 :] == mine[i]).sum()), int((theirs[j + 1 :] == theirs[j]).sum())
            return not mask.causal or later[1] >= later[0]
        return not mask.causal or j <= i + keys - queries

    for row in range(batch):
        for head in range(heads):
            for i in range(queries):
                seen = [j for j in range(keys) if sees(row, head, i, j)]
                if seen:
                    scores = key[row, head // group, seen] @ query[row, head, i] / query.shape[-1] ** 0.5
                    if bias is not None:
                        scores = scores + bias[row, head, i, seen]
                    output[row, head, i] = scores.softmax(0) @ value[row, head // group, seen]
    return output


@masks
@pytest.mark.parametrize("kv_heads", [HEADS, 2, 1])
@pytest.mark.parametrize("backend", ["sdpa", "eager", "auto", "xformers"])
def test_backends_equal_attention_by_hand(backend, kv_heads, mask, queries, keys):
    inputs = tensors(queries, keys, kv_heads=kv_heads)
    if backend == "xformers" and (reason := why_not_xformers(*inputs, mask)):
        pytest.skip(reason)
    torch.testing.assert_close(attend(*inputs, mask, backend=backend), by_hand(*inputs, mask))


@masks
@pytest.mark.parametrize("backend", ["sdpa", "xformers"])
def test_backends_agree_backward(backend, mask, queries, keys):
    results = []
    for name in ("eager", backend):
        inputs = tensors(queries, keys, kv_heads=2, grad=True)
        if name == "xformers" and (reason := why_not_xformers(*inputs, mask)):
            pytest.skip(reason)
        bias = torch.randn(1, HEADS, queries, keys, generator=torch.manual_seed(5)).requires_grad_()
        output = attend(*inputs, mask, backend=name) + attend(*inputs, mask, backend=name, bias=bias, scale=0.3)
        (output * torch.randn(output.shape, generator=torch.manual_seed(6))).sum().backward()
        results.append([output.detach(), *(tensor.grad for tensor in [*inputs, bias])])
    for ours, expected in zip(results[1], results[0]):
        assert ours.isfinite().all()
        torch.testing.assert_close(ours, expected)


@masks
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("kv_heads", [HEADS, 2])
def test_xformers_layout_under_its_own_reference_attention(kv_heads, with_bias, mask, queries, keys):
    from xformers.attn_bias_utils import ref_attention

    inputs = tensors(queries, keys, kv_heads=kv_heads)
    bias = torch.randn(BATCH, HEADS, queries, keys, generator=torch.manual_seed(5)) if with_bias else None
    laid_out = lay_out(import_xformers(), *prepare(*inputs), mask, Options(bias=bias, scale=DIM**-0.5))
    ours = laid_out.run(lambda x: ref_attention(x.query, x.key, x.value, x.attn_bias, scale=x.scale))
    assert not laid_out.inputs.query.shape[1] or laid_out.inputs.validate_inputs() is None
    torch.testing.assert_close(ours, attend(*inputs, mask, bias=bias, backend="sdpa"))
    torch.testing.assert_close(ours, by_hand(*inputs, mask, bias))


@pytest.mark.parametrize(
    ("name", "expected"),
    {
        "bidirectional": "NoneType",
        "causal": "LowerTriangularMask",
        "causal with a past": "LowerTriangularFromBottomRightMask",
        "causal, one query": "NoneType",
        "padding right": "BlockDiagonalMask",
        "causal padding left": "BlockDiagonalCausalMask",
        "causal padding with a past": "BlockDiagonalCausalFromBottomRightMask",
        "causal documents": "BlockDiagonalCausalMask",
        "cross documents": "BlockDiagonalMask",
        "causal cross documents": "BlockDiagonalCausalFromBottomRightMask",
    }.items(),
)
def test_xformers_bias_class_and_no_dense_mask(name, expected, monkeypatch):
    mask, queries, keys = MASKS[name]
    monkeypatch.setattr(AttentionMask, "dense", lambda *_: pytest.fail("built a dense mask"))
    flat = mask.to_xformers(BATCH, queries, keys)
    assert type(flat.bias).__name__ == expected
    assert flat is mask.to_xformers(BATCH, queries, keys), "layers must share one translation"


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(
        st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=1, max_size=4), min_size=1, max_size=3
    ),
    causal=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_packed_equals_each_document_alone(rows, causal, seed):
    """rows: for each row the lengths of its runs and whether a run is a document (else padding)."""
    from xformers.attn_bias_utils import ref_attention

    length = max(sum(size for size, _ in row) for row in rows)
    ids = torch.full((len(rows), length), -1)
    documents = []
    for number, row in enumerate(rows):
        start = 0
        for document, (size, is_document) in enumerate(row):
            if is_document:
                ids[number, start : start + size] = document
                documents.append((number, slice(start, start + size)))
            start += size
    inputs = tensors(length, length, kv_heads=2, seed=seed, batch=len(rows))
    mask = AttentionMask.from_documents(ids, causal=causal)
    expected = torch.zeros_like(inputs[0])
    for number, place in documents:
        alone = (tensor[number : number + 1, :, place] for tensor in inputs)
        expected[number, :, place] = attend(*alone, AttentionMask(causal=causal), backend="sdpa")[0]
    laid_out = lay_out(import_xformers(), *prepare(*inputs), mask, Options(scale=DIM**-0.5))
    by_xformers = laid_out.run(lambda x: ref_attention(x.query, x.key, x.value, x.attn_bias, scale=x.scale))
    for packed in (attend(*inputs, mask, backend="sdpa"), attend(*inputs, mask, backend="eager"), by_xformers):
        torch.testing.assert_close(packed, expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@masks
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_xformers_on_cuda(dtype, mask, queries, keys):
    inputs = tensors(queries, keys, kv_heads=2, dtype=dtype, device="cuda", grad=True)
    if reason := why_not_xformers(*inputs, mask):
        pytest.skip(reason)
    exact = tensors(queries, keys, kv_heads=2, dtype=dtype, grad=True)
    weights = torch.randn(BATCH, HEADS, queries, DIM, generator=torch.manual_seed(6)).to(dtype)
    ours, expected = attend(*inputs, mask, backend="xformers"), attend(*exact, mask, backend="eager")
    (ours * weights.cuda()).sum().backward()
    (expected * weights).sum().backward()
    tolerance = {"atol": 2e-2, "rtol": 2e-2} if dtype == torch.bfloat16 else {"atol": 1e-4, "rtol": 1e-4}
    torch.testing.assert_close(ours.cpu(), expected, **tolerance)
    for tensor, reference in zip(inputs, exact):
        torch.testing.assert_close(tensor.grad.cpu(), reference.grad, **tolerance)


def test_queries_broadcast_over_the_batch_of_keys():
    query, key, value = tensors(5, 7)
    ours = attend(query[:1], key, value)
    torch.testing.assert_close(ours, attend(query[:1].repeat(BATCH, 1, 1, 1), key, value))


def test_rows_of_minus_infinity_in_the_bias_give_zeros():
    inputs = tensors(5, 7, grad=True)
    bias = torch.zeros(1, 1, 5, 7)
    bias[:, :, 2] = -torch.inf
    for backend in ("sdpa", "eager"):
        output = attend(*inputs, bias=bias, backend=backend)
        assert (output[:, :, 2] == 0).all() and (output[:, :, 1] != 0).all()
        assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(output.sum(), inputs))


def test_autocast_brings_query_and_value_to_one_dtype():
    query, key, value = tensors(5, 7)
    exact = attend(query, key, value)
    for backend in ("sdpa", "eager"):
        with torch.autocast("cpu", torch.bfloat16):
            output = attend(query, key, value.bfloat16(), backend=backend)
        assert output.dtype == torch.bfloat16
        torch.testing.assert_close(output.float(), exact, atol=2**-6, rtol=0)


def test_softcap_is_eager_only():
    inputs = tensors(5, 7)
    scores = torch.tanh(inputs[0] @ inputs[1].transpose(2, 3) / DIM**0.5 / 2) * 2
    torch.testing.assert_close(attend(*inputs, softcap=2.0), scores.softmax(-1) @ inputs[2])
    with pytest.raises(ZooError, match="softcap"):
        attend(*inputs, softcap=2.0, backend="sdpa")


def test_dropout_keeps_the_mean_and_drops_something():
    query, key, _ = tensors(5, 400)
    torch.manual_seed(0)
    for backend in ("sdpa", "eager"):
        output = attend(query, key, torch.ones_like(key), dropout=0.5, backend=backend)
        assert (output != 1).any() and abs(output.mean().item() - 1) < 0.05


def test_refusals_name_the_reason():
    inputs = tensors(5, 7)
    assert why_not_xformers(*inputs) == "xformers has no operator on cpu"
    with pytest.raises(ZooError, match="refused: xformers has no operator on cpu"):
        attend(*inputs, backend="xformers")
    with pytest.raises(ZooError, match="Did you mean 'xformers'"):
        attend(*inputs, backend="xformer")
    with pytest.raises(ZooError, match="do not fit"):
        attend(inputs[0], inputs[1][:, :3], inputs[2][:, :3])
    with pytest.raises(ZooError, match="made for 7 queries and 7 keys"):
        attend(*inputs, AttentionMask.from_documents(SELF_DOCUMENTS))
    with pytest.raises(ZooError, match="does not broadcast"):
        attend(*inputs, AttentionMask(key_padding=torch.ones(2, 7, dtype=torch.bool)))
    with pytest.raises(ZooError, match=r"key_padding is torch\.int64"):
        AttentionMask(key_padding=torch.ones(2, 7, dtype=torch.long))
    with pytest.raises(ZooError, match="negative document id"):
        AttentionMask(key_padding=SELF_DOCUMENTS > 0, query_documents=SELF_DOCUMENTS, key_documents=SELF_DOCUMENTS)
    with pytest.raises(ZooError, match="no xformers bias class"):
        MASKS["dense"][0].to_xformers(BATCH, 5, 7)


def test_not_installed_is_a_reason(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert why_not_xformers(*tensors(5, 7)) == "xformers is not installed"


def test_xformers_is_imported_on_demand_and_in_silence():
    code = """
import sys, torch
from zoo.attention import AttentionMask, attend
attend(torch.zeros(1, 1, 2, 8), torch.zeros(1, 1, 2, 8), torch.zeros(1, 1, 2, 8))
assert "xformers" not in sys.modules
AttentionMask(causal=True).to_xformers(1, 2, 2)
assert "xformers" in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
TEXT = SIZES | {"vocab_size": 50, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": None}
LANGUAGE_MODELS = {
    "llama": (LlamaForCausalLM, LlamaConfig(**TEXT, num_key_value_heads=2)),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(**TEXT, num_key_value_heads=1)),
    "mistral": (MistralForCausalLM, MistralConfig(**TEXT, num_key_value_heads=2, sliding_window=4)),
    "opt": (OPTForCausalLM, OPTConfig(**TEXT, ffn_dim=48, word_embed_proj_dim=32, max_position_embeddings=64)),
}
IMAGE = {"image_size": 28, "patch_size": 14}
VISION_MODELS = {
    "clip": (CLIPVisionModel, CLIPVisionConfig(**SIZES, **IMAGE)),
    "siglip": (SiglipVisionModel, SiglipVisionConfig(**SIZES, **IMAGE)),
    "dinov2": (Dinov2Model, Dinov2Config(**SIZES, **IMAGE)),
    "eva": (Blip2VisionModel, Blip2VisionConfig(**SIZES, **IMAGE)),
}


def build(kind, config):
    torch.manual_seed(0)
    model = kind(config).eval()
    # transformers' small init leaves attention nearly uniform, and a wrong mask nearly unseen
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.fixture(scope="module", params=LANGUAGE_MODELS, ids=str)
def language_model(request):
    return build(*LANGUAGE_MODELS[request.param])


@pytest.fixture(params=["auto", "sdpa", "eager"])
def backend(request):
    return request.param


def both(model, backend, function):
    """The function's result with stock SDPA and with our attention."""
    model.set_attn_implementation("sdpa")
    stock = function()
    use(model, backend)
    return stock, function()


IDS = torch.randint(1, 50, (BATCH, 9), generator=torch.Generator().manual_seed(1))
close = {"atol": 1e-5, "rtol": 0}


def test_registration_covers_attention_and_masks():
    register()
    register()
    for name in ("zoo", "zoo_sdpa", "zoo_eager", "zoo_xformers"):
        assert name in AttentionInterface().valid_keys() and name in AttentionMaskInterface().valid_keys()


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
def test_language_models_with_padding(language_model, backend, side):
    real = padding(9, 5, 2, keys=9, side=side)
    stock, ours = both(language_model, backend, lambda: language_model(IDS, attention_mask=real.long()).logits)
    torch.testing.assert_close(ours[real], stock[real], **close)
    stock, ours = both(language_model, backend, lambda: language_model(IDS).logits)
    torch.testing.assert_close(ours, stock, **close)


@torch.no_grad()
def test_language_models_with_a_document_mask(language_model, backend):
    dense = AttentionMask.from_documents(torch.tensor([[0] * 4 + [1] * 5]).expand(BATCH, -1), causal=True).dense(9, 9)
    # OPT reads positions off a 2-D mask, so it is given them
    inputs = {"attention_mask": dense, "position_ids": torch.arange(9).expand(BATCH, -1)}
    stock, ours = both(language_model, backend, lambda: language_model(IDS, **inputs).logits)
    torch.testing.assert_close(ours, stock, **close)
    assert (ours - language_model(IDS).logits).abs().max() > 1e-2, "the mask must matter"


@pytest.mark.parametrize("lengths", [(9, 5, 2), (9, 9, 9)], ids=["left padding", "whole"])
@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_language_models_generate(language_model, backend, cache, lengths):
    inputs = {"attention_mask": padding(*lengths, keys=9, side="left").long(), "cache_implementation": cache}
    stock, ours = both(
        language_model, backend, lambda: language_model.generate(IDS, max_new_tokens=6, do_sample=False, **inputs)
    )
    assert ours.tolist() == stock.tolist()


def test_language_models_backward(language_model, backend):
    real = padding(9, 5, 2, keys=9, side="right")
    labels = IDS.masked_fill(~real, -100)

    def gradients():
        language_model.zero_grad()
        language_model(IDS, attention_mask=real.long(), labels=labels).loss.backward()
        return [parameter.grad.clone() for parameter in language_model.parameters()]

    for stock, ours in zip(*both(language_model, backend, gradients)):
        torch.testing.assert_close(ours, stock, atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", ["llama", "qwen2", "opt"])
def test_zoo_mask_packs_without_a_dense_mask(name, backend):
    model = build(*LANGUAGE_MODELS[name])
    use(model, backend)
    lengths = [4, 3, 2]
    ids = torch.tensor([[0] * 4 + [1] * 3 + [2] * 2])
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    built = []
    model.get_decoder().layers[0].self_attn.register_forward_pre_hook(
        lambda _, args, kwargs: built.append(kwargs["attention_mask"]), with_kwargs=True
    )
    inputs = {"position_ids": positions, "zoo_mask": AttentionMask.from_documents(ids, causal=True)}
    packed = model(IDS[:1], attention_mask=torch.ones_like(ids), **inputs).logits
    assert built == [None]
    torch.testing.assert_close(model(IDS[:1], **inputs).logits, packed, **close)
    alone = [model(document).logits for document in IDS[:1].split(lengths, dim=1)]
    torch.testing.assert_close(packed, torch.cat(alone, dim=1), **close)
    leaking = model(IDS[:1], attention_mask=torch.ones_like(ids), position_ids=positions).logits
    assert (leaking - packed).abs().max() > 1e-2, "without zoo_mask documents see each other"


def test_zoo_mask_refuses_to_widen_a_sliding_window():
    model = build(*LANGUAGE_MODELS["mistral"])
    use(model)
    with pytest.raises(ZooError, match="sliding window of 4"):
        model(IDS, zoo_mask=AttentionMask(causal=True))


@torch.no_grad()
@pytest.mark.parametrize("name", VISION_MODELS)
def test_vision_towers(name, backend):
    model = build(*VISION_MODELS[name])
    pixels = torch.randn(2, 3, 28, 28, generator=torch.manual_seed(2))
    stock, ours = both(model, backend, lambda: model(pixels).last_hidden_state)
    torch.testing.assert_close(ours, stock, **close)


@torch.no_grad()
def test_clip_text_is_causal_by_keyword(backend):
    config = CLIPTextConfig(**SIZES, vocab_size=50, eos_token_id=49, max_position_embeddings=16)
    model = build(CLIPTextModel, config)
    real = padding(9, 5, 2, keys=9, side="right")
    for mask in (None, real.long()):
        stock, ours = both(model, backend, lambda mask=mask: model(IDS, attention_mask=mask).last_hidden_state)
        torch.testing.assert_close(ours[real], stock[real], **close)


@torch.no_grad()
@pytest.mark.parametrize("num_query_rows", [1, BATCH])
def test_qformer_with_padded_images(backend, num_query_rows):
    model = build(Blip2QFormerModel, Blip2QFormerConfig(**SIZES, encoder_hidden_size=24, cross_attention_frequency=1))
    generator = torch.manual_seed(2)
    queries = torch.randn(num_query_rows, 4, 32, generator=generator)
    image = torch.randn(num_query_rows, 6, 24, generator=generator)
    real = padding(6, 4, 2, keys=6, side="right")[:num_query_rows]
    query_real = padding(4, 3, 2, keys=4, side="right")[:num_query_rows]
    stock, ours = both(
        model,
        backend,
        lambda: (
            model(
                query_embeds=queries,
                attention_mask=query_real.long(),
                encoder_hidden_states=image,
                encoder_attention_mask=real.long(),
            ).last_hidden_state
        ),
    )
    torch.testing.assert_close(ours[query_real], stock[query_real], **close)


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
def test_t5_with_position_bias(backend, side):
    config = T5Config(
        vocab_size=50,
        d_model=32,
        d_kv=8,
        d_ff=48,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=0,
        eos_token_id=None,
    )
    model = build(T5ForConditionalGeneration, config)
    real = padding(9, 5, 2, keys=9, side=side)
    decoded = IDS[:, :6]
    stock, ours = both(model, backend, lambda: model(IDS, attention_mask=real.long(), decoder_input_ids=decoded).logits)
    torch.testing.assert_close(ours, stock, **close)
    stock, ours = both(
        model, backend, lambda: model.generate(IDS, attention_mask=real.long(), max_new_tokens=6, do_sample=False)
    )
    assert ours.tolist() == stock.tolist()


@torch.no_grad()
def test_gemma2_softcap_takes_the_eager_backend():
    config = Gemma2Config(**TEXT, num_key_value_heads=2, head_dim=8, attn_logit_softcapping=1.5, sliding_window=4)
    model = build(Gemma2ForCausalLM, config)
    real = padding(9, 5, 2, keys=9, side="left")
    stock = model(IDS, attention_mask=real.long()).logits
    use(model, "auto")
    torch.testing.assert_close(model(IDS, attention_mask=real.long()).logits[real], stock[real], **close)
    with pytest.raises(ZooError, match="Gemma2ForCausalLM does not take attention 'zoo_sdpa'"):
        use(model, "sdpa")
