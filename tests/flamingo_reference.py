"""OpenFlamingo's modules: the names of its checkpoints, and the fill rule of the values that its code gave."""

import math
import re

import torch

RESAMPLER_NAMES = {
    r"^layers\.(\d+)\.0\.norm_media\.": r"layers.\1.attention.media_norm.",
    r"^layers\.(\d+)\.0\.norm_latents\.": r"layers.\1.attention.latent_norm.",
    r"^layers\.(\d+)\.0\.to_q\.": r"layers.\1.attention.query.",
    r"^layers\.(\d+)\.0\.to_kv\.": r"layers.\1.attention.key_value.",
    r"^layers\.(\d+)\.0\.to_out\.": r"layers.\1.attention.output.",
    r"^layers\.(\d+)\.1\.0\.": r"layers.\1.mlp.norm.",
    r"^layers\.(\d+)\.1\.1\.": r"layers.\1.mlp.input.",
    r"^layers\.(\d+)\.1\.3\.": r"layers.\1.mlp.output.",
}
BLOCK_NAMES = {
    r"^attn\.norm\.": "attention.norm.",
    r"^attn\.to_q\.": "attention.query.",
    r"^attn\.to_kv\.": "attention.key_value.",
    r"^attn\.to_out\.": "attention.output.",
    r"^attn_gate$": "attention_gate",
    r"^ff\.0\.": "mlp.norm.",
    r"^ff\.1\.": "mlp.input.",
    r"^ff\.3\.": "mlp.output.",
    r"^ff_gate$": "mlp_gate",
}


def renamed(key, names):
    for pattern, ours in names.items():
        key, count = re.subn(pattern, ours, key)
        if count:
            return key
    return key


def wave(*shape, step, start):
    """sin(step * i + start) over the flat index i, in float64."""
    values = torch.sin(step * torch.arange(math.prod(shape), dtype=torch.float64) + start)
    return values.reshape(shape)


def fill_by_rule(module, official_keys, names):
    """Load 0.1 sin(0.37 i + 1.3 j) under the official key number j in sorted order; weights of LayerNorms one more."""
    ours = module.state_dict()
    values = {}
    for j, key in enumerate(sorted(official_keys)):
        name = renamed(key, names)
        is_norm_weight = ours[name].ndim == 1 and name.endswith("norm.weight")
        values[name] = 0.1 * wave(*ours[name].shape, step=0.37, start=1.3 * j) + float(is_norm_weight)
    module.load_state_dict(values)
    return module.double().eval()


def check_golden(output, *, head, tail, total, absolute):
    """Compare with the printed first six and last three values, the sum and the sum of absolute values."""
    values = output.detach().flatten()
    for found, printed in ((values[:6], head), (values[-3:], tail)):
        assert (found - torch.tensor(printed, dtype=values.dtype)).abs().max() < 1e-6
    assert abs(values.sum() - total) < 1e-6 and abs(values.abs().sum() - absolute) < 1e-6
