"""Gated cross-attention: OpenFlamingo's values, who reads which image, and the language model left as it is."""

import copy

import pytest
import torch
from flamingo_reference import BLOCK_NAMES, RESAMPLER_NAMES, check_golden, fill_by_rule, wave
from tiny import fill
from transformers import AutoConfig, AutoModelForCausalLM

from zoo.attention import register
from zoo.connectors.resampler import Resampler
from zoo.data.batch import Batch
from zoo.errors import ZooError
from zoo.fusion import SoftTokens
from zoo.fusion.gated import Reading
from zoo.fusion.gated_cross_attention import GatedBlock, GatedCrossAttention
from zoo.fusion.idefics_cross_attention import IdeficsCrossAttention
from zoo.language import LanguageModel

DIM_MEDIA = 16
TINY = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
FAMILIES = {
    "llama": {"intermediate_size": 48},
    "mistral": {"intermediate_size": 48, "num_key_value_heads": 2},
    "qwen2": {"intermediate_size": 48, "num_key_value_heads": 2},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "gpt_neox": {"intermediate_size": 48},
}
SMALL = {"every": 2, "num_heads": 2, "head_dim": 8}
CONFIGS = {
    "openflamingo": GatedCrossAttention(**SMALL, gate=0.7),
    "idefics": IdeficsCrossAttention(every=2, gate=0.7),
    "vector": IdeficsCrossAttention(every=2, gate=0.7, gate_shape="vector", qk_norm=False),
}


def language_model(family="llama"):
    register()
    config = AutoConfig.for_model(family, **TINY | FAMILIES[family])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="zoo")
    return LanguageModel(fill(model, 0.1).eval(), None)


def built(config=CONFIGS["openflamingo"], family="llama"):
    """A fusion, and the language model that its hooks are on."""
    base = language_model(family)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        fusion = config.build(dim_media=DIM_MEDIA, language_model=base).eval()
    return fusion, base


def batch(seen, documents=None):
    """Rows whose positions have begun so many media; ids are of no matter beyond being different."""
    seen = torch.tensor(seen)
    ids = (torch.arange(seen.numel()) * 7 % 55 + 3).view(seen.shape)
    documents = None if documents is None else torch.tensor(documents)
    empty = torch.zeros_like(seen, dtype=torch.bool)
    return Batch(
        ids=ids,
        labels=ids,
        attention_mask=torch.ones_like(empty),
        media_mask=empty,
        position_ids=torch.arange(seen.shape[1]).expand_as(ids),
        documents=documents,
        frames=None,
        num_frames=(1,) * int(seen.max()),
        is_video=(False,) * int(seen.max()),
        media_seen=seen,
        region_mask=empty,
        sample_ids=tuple(str(row) for row in range(len(ids))),
    )


def soft_tokens(counts, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return SoftTokens(media=torch.randn(sum(counts), DIM_MEDIA, generator=generator), counts=tuple(counts))


def logits(fusion, base, given, soft, **options):
    with fusion.reading(soft, given):
        embeddings = fusion(base.embed(given.ids), soft, given)
        return base.model(inputs_embeds=embeddings, use_cache=False, **options).logits


OFFICIAL = (
    *("attn.norm.bias", "attn.norm.weight", "attn.to_kv.weight", "attn.to_out.weight", "attn.to_q.weight"),
    *("attn_gate", "ff.0.bias", "ff.0.weight", "ff.1.weight", "ff.3.weight", "ff_gate"),
)
RESAMPLER_KEYS = ["latents", "norm.bias", "norm.weight"] + [
    f"layers.{layer}.{half}.{name}"
    for layer in range(2)
    for half, names in (
        (0, "norm_latents.bias norm_latents.weight norm_media.bias norm_media.weight to_kv.weight to_out.weight"),
        (0, "to_q.weight"),
        (1, "0.bias 0.weight 1.weight 3.weight"),
    )
    for name in names.split()
]


@torch.no_grad()
def test_golden_values():
    resampler = Resampler(num_latents=4, depth=2, num_heads=2, head_dim=8)
    resampler = resampler.build(dim_in=16, dim_out=16, grid=(2, 2), num_features=5)
    media = fill_by_rule(resampler, RESAMPLER_KEYS, RESAMPLER_NAMES).resample(wave(2, 1, 5, 16, step=0.21, start=0.5))
    block = fill_by_rule(GatedBlock(12, 16, GatedCrossAttention(num_heads=2, head_dim=8)), OFFICIAL, BLOCK_NAMES)
    block.attention_gate.fill_(0.5)
    block.mlp_gate.fill_(-0.25)
    hidden = wave(1, 7, 12, step=0.13, start=0.2)
    soft = SoftTokens(media=media.flatten(0, 1), counts=(4, 4))
    reading = Reading(soft, batch([[0, 1, 1, 1, 2, 2, 2]]), "immediate", training=False)
    output = block(hidden, reading.media, reading.is_token, reading.routing(1, 0, 7))
    check_golden(
        output,
        head=[0.194582, 0.325437, 0.449326, 0.559946, 0.657326, 0.745789],
        tail=[-1.054551, -1.118940, -1.152920],
        total=9.852950,
        absolute=54.499944,
    )
    attended = block.attention(hidden, reading.media, None, reading.routing(1, 0, 7))
    assert not attended[:, 0].any() and attended[:, 1:].abs().amax(-1).min() > 1e-3
    # A generated token alone, as with a cache.
    last = block(hidden[:, -1:], reading.media, reading.is_token, reading.routing(1, 7, 1))
    assert (last[:, 0] - output[:, -1]).abs().max() < 1e-12


def test_published_size():
    with torch.device("meta"):
        block = GatedBlock(4096, 1024, GatedCrossAttention())
    assert sum(parameter.numel() for parameter in block.parameters()) == 139_476_994


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_begins_as_the_plain_language_model_bit_for_bit(family):
    given = batch([[0, 0, 1, 1, 2, 2], [0, 0, 0, 0, 0, 0]])
    plain = language_model(family)
    expected = plain.model(inputs_embeds=plain.embed(given.ids), use_cache=False).logits
    fusion, base = built(GatedCrossAttention(**SMALL), family)
    assert torch.equal(logits(fusion, base, given, soft_tokens([4, 4])), expected)
    assert base.state_dict().keys() == plain.state_dict().keys()
    assert fusion.num_positions([4, 4]) == [0, 0]
    for block in fusion.blocks:
        block.attention_gate.fill_(0.5)
    opened = logits(fusion, base, given, soft_tokens([4, 4]))
    assert (opened - expected)[0, 2:].abs().amax(-1).min() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("name", CONFIGS)
def test_text_reads_the_newest_image_only(name):
    fusion, base = built(CONFIGS[name])
    given = batch([[0, 0, 1, 1, 2, 2, 2], [0, 3, 3, 3, 3, 3, 3], [0] * 7])
    soft = soft_tokens([4, 4, 4])
    first = logits(fusion, base, given, soft)

    def changed(order):
        media = soft.media.unflatten(0, (3, 4))[order].flatten(0, 1)
        other = logits(fusion, base, given, SoftTokens(media=media, counts=soft.counts))
        return ((other - first).abs().amax(-1) > 1e-5).tolist()

    after, never = [False] * 2 + [True] * 5, [False] * 7
    assert changed([1, 0, 2]) == [after, never, never]
    assert changed([0, 2, 1]) == [[False] * 4 + [True] * 3, [False] + [True] * 6, never]
    # A position's own block reads one image: the second image's text, alone in the first block, forgets the first.
    reading = Reading(soft, given, "immediate", training=False)
    hidden = torch.randn(3, 7, 32, generator=torch.Generator().manual_seed(2))
    block = fusion.blocks[0]
    swapped = soft.media.unflatten(0, (3, 4))[[2, 1, 0]]
    routing = reading.routing(3, 0, 7)
    difference = block(hidden, reading.media, None, routing) - block(hidden, swapped, None, routing)
    read_first = torch.tensor([[False] * 2 + [True] * 2 + [False] * 3, [False] + [True] * 6, [False] * 7])
    assert torch.equal(difference.abs().amax(-1) > 1e-6, read_first)


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_cached_generation_equals_uncached_with_and_without_beams(family):
    fusion, base = built(family=family)
    given = batch([[0, 0, 1, 1, 2], [0, 3, 3, 3, 3], [0] * 5])
    soft = soft_tokens([4, 4, 4])

    def generate(**options):
        with fusion.reading(soft, given):
            return base.model.generate(
                inputs_embeds=base.embed(given.ids),
                attention_mask=given.attention_mask.long(),
                max_new_tokens=6,
                do_sample=False,
                eos_token_id=59,
                **options,
            ).tolist()

    # The same from full forward passes: new positions see the newest image.
    rows = given.ids
    for _ in range(6):
        seen = torch.cat([given.media_seen, given.media_seen[:, -1:].expand(-1, rows.shape[1] - 5)], dim=1).tolist()
        whole = batch(seen)
        with fusion.reading(soft, whole):
            step = base.model(inputs_embeds=base.embed(rows), use_cache=False).logits[:, -1]
        rows = torch.cat([rows, step.argmax(-1, keepdim=True)], dim=1)
    expected = rows[:, 5:].tolist()
    assert len({tuple(row) for row in expected}) > 1
    assert generate() == expected == generate(use_cache=False)
    assert generate(num_beams=3, use_cache=True) == generate(num_beams=3, use_cache=False)
    with fusion.reading(soft_tokens([4, 4, 4], seed=9), given):
        other = base.model.generate(inputs_embeds=base.embed(given.ids), max_new_tokens=6, eos_token_id=59, num_beams=3)
    assert other[2].tolist() == generate(num_beams=3)[2] and other[0].tolist() != generate(num_beams=3)[0]


@torch.no_grad()
@pytest.mark.parametrize("rule", ["immediate", "all_previous"])
def test_packed_rows_equal_rows_of_their_own(rule):
    fusion, base = built(GatedCrossAttention(**SMALL, gate=0.7, attend=rule))
    seen = [[0, 1, 1, 2, 2], [3, 3, 3, 4, 4], [0, 0, 5, 5, 5]]
    apart = batch(seen)
    packed = batch([seen[0] + seen[1] + seen[2]], [[0] * 5 + [1] * 5 + [2] * 5])
    soft = soft_tokens([4, 2, 4, 3, 4])
    document = packed.documents[:, :, None] == packed.documents[:, None]
    options = {
        "attention_mask": (document & torch.ones(15, 15).tril().bool())[:, None],
        "position_ids": torch.arange(5).repeat(3)[None],
    }
    together = logits(fusion, base, packed, soft, **options)
    assert (together.view(3, 5, -1) - logits(fusion, base, apart, soft)).abs().max() < 1e-5


def reference_attention(block, hidden, media, visible):
    """Every position against every token of every medium, masked: visible (positions, media) bool, for one row."""
    heads, dim = block.heads
    query = block.query(block.norm(hidden)).view(-1, heads, dim)
    key, value = block.key_value(torch.cat(media)).view(-1, 2, heads, dim).unbind(1)
    mask = torch.cat([visible[:, i : i + 1].expand(-1, len(tokens)) for i, tokens in enumerate(media)], dim=1)
    scores = torch.einsum("qhd,khd->hqk", query, key) / dim**0.5
    weights = scores.masked_fill(~mask, -torch.inf).softmax(-1).nan_to_num(0.0)
    return block.output(torch.einsum("hqk,khd->qhd", weights, value).flatten(1))


@torch.no_grad()
def test_rules_against_a_dense_mask():
    fusion, _ = built()
    attention = fusion.blocks[0].attention
    seen = [0, 1, 1, 2, 2, 3, 3]
    given, soft = batch([[*seen], [0, 4, 4, 4, 5, 5, 5]]), soft_tokens([4, 2, 3, 4, 1])
    hidden = torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(3))
    media = soft.media.split(list(soft.counts))
    number = torch.arange(1, 6)
    rows = given.media_seen[..., None]
    document = torch.tensor([[True] * 3 + [False] * 2, [False] * 3 + [True] * 2])[:, None]
    rules = {"immediate": number == rows, "all_previous": (number <= rows) & document}
    for rule, visible in rules.items():
        reading = Reading(soft, given, rule, training=False)
        output = attention(hidden, reading.media, reading.is_token, reading.routing(2, 0, 7))
        for row in range(2):
            expected = reference_attention(attention, hidden[row], media, visible[row])
            assert (output[row] - expected).abs().max() < 1e-5


def test_previous_or_next():
    given = batch([[0, 0, 1, 1, 2, 2], [0, 3, 3, 3, 4, 4]] * 20)
    given.media_seen[2:] += torch.arange(0, 80, 4).repeat_interleave(2)[2:, None] * (given.media_seen[2:] > 0)
    soft = soft_tokens([1] * int(given.media_seen.max()))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trained = Reading(soft, given, "previous_or_next", training=True)
    offset = torch.arange(0, 80, 4).repeat_interleave(2)
    found = [
        [value - base if value else 0 for value in row] for row, base in zip(trained.seen.tolist(), offset.tolist())
    ]
    previous = [[0, 0, 1, 1, 2, 2], [0, 3, 3, 3, 4, 4]]
    # The token that a medium begins at reads it; behind it text waits for the next one, and at the end for none.
    following = [[1, 1, 1, 2, 2, 0], [3, 3, 4, 4, 4, 0]]
    for row, values in enumerate(found):
        assert values in (previous[row % 2], following[row % 2])
    assert 10 < sum(values in following for values in found) < 30
    asked = Reading(soft, given, "previous_or_next", training=False)
    assert torch.equal(asked.seen, given.media_seen)


def gradients(fusion, base, checkpointing):
    base.model.train()
    base.model.config.use_cache = False
    if checkpointing:
        base.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    given = [batch([[0, 1, 1, 2, 2]]), batch([[1, 1, 1, 1, 1]])]
    media = soft_tokens([4, 4]).media.requires_grad_()
    # Two forward passes before the backward pass: the second must not hide the first one's media.
    first = logits(fusion, base, given[0], SoftTokens(media=media, counts=(4, 4)))
    second = logits(fusion, base, given[1], SoftTokens(media=media[:3] * 2, counts=(3,)))
    (first.square().mean() + second.square().mean()).backward()
    found = {key: p.grad for module in (fusion, base) for key, p in module.named_parameters()}
    return found | {"media": media.grad}


def test_gradient_checkpointing_finds_the_media_again():
    plain, recomputed = gradients(*built(), checkpointing=False), gradients(*built(), checkpointing=True)
    assert plain.keys() == recomputed.keys()
    for key, gradient in plain.items():
        assert (gradient - recomputed[key]).abs().max() < 1e-6, key
    assert plain["media"].abs().max() > 1e-4 and plain["blocks.0.attention.query.weight"].abs().max() > 1e-5


@pytest.mark.parametrize("name", CONFIGS)
def test_without_media_every_parameter_still_takes_part(name):
    fusion, base = built(CONFIGS[name])
    fusion.train()
    for soft in (None, SoftTokens(media=torch.zeros(0, DIM_MEDIA), counts=())):
        logits(fusion, base, batch([[0, 0, 0]]), soft).square().mean().backward()
    untouched = [key for key, parameter in fusion.named_parameters() if parameter.grad is None]
    assert untouched == []
    assert all(not p.grad.any() for key, p in fusion.named_parameters() if ".attention." in key)
    assert fusion.blocks[0].mlp_gate.grad.any()


@torch.no_grad()
def test_a_copy_has_hooks_of_its_own():
    whole = torch.nn.ModuleDict(dict(zip(("fusion", "base"), built())))
    twin = copy.deepcopy(whole)
    given, soft = batch([[0, 1, 1, 1]]), soft_tokens([4])
    before = logits(whole["fusion"], whole["base"], given, soft)
    assert torch.equal(logits(twin["fusion"], twin["base"], given, soft), before)
    for parameter in twin["fusion"].parameters():
        parameter.zero_()
    assert torch.equal(logits(whole["fusion"], whole["base"], given, soft), before)
    assert not torch.equal(logits(twin["fusion"], twin["base"], given, soft), before)
    # Reading with the original does not reach the copy's language model.
    with whole["fusion"].reading(soft, given):
        plain = twin["base"].model(inputs_embeds=twin["base"].embed(given.ids), use_cache=False).logits
    assert torch.equal(plain, logits(twin["fusion"], twin["base"], given, soft))


@torch.no_grad()
def test_outside_of_reading_the_language_model_is_plain():
    given, plain = batch([[0, 1, 1]]), language_model()
    _, base = built()
    found = base.model(inputs_embeds=base.embed(given.ids), use_cache=False).logits
    assert torch.equal(found, plain.model(inputs_embeds=plain.embed(given.ids), use_cache=False).logits)


def test_what_cannot_be_built_is_said():
    with pytest.raises(ZooError, match="every 4 puts no gated layer into 3 decoder layers"):
        built(GatedCrossAttention())
    with pytest.raises(ZooError, match="Did you mean 'immediate'"):
        GatedCrossAttention(attend="imediate")
    with pytest.raises(ZooError, match="Did you mean 'vector'"):
        IdeficsCrossAttention(gate_shape="vectors")
    with pytest.raises(ZooError, match="opt has no"):
        built(CONFIGS["idefics"], "opt")
