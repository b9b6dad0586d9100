"""Write what a model of transformers gives as a folder for ``zoo verify``."""

import json

import torch
from safetensors.torch import load_file, save_file


def write_case(folder, model, probes, *, captures=None, generate=None, **meta):
    """Run ``model`` and store what came of it.

    Args:
        probes: name -> arguments of forward. Those of a probe named gen are generate's.
        captures: output -> path of the module whose result it is.
        generate: keyword arguments of generate.
    """
    model = model.eval()
    model.save_pretrained(folder)
    inputs, outputs = {}, {}
    for probe, arguments in probes.items():
        inputs |= {f"{probe}/{name}": value.contiguous().clone() for name, value in arguments.items()}
        found = _generated(model, arguments, generate) if probe == "gen" else _run(model, arguments, captures or {})
        outputs |= {f"{probe}/{name}": value.detach().contiguous().clone() for name, value in found.items()}
    save_file(inputs, folder / "inputs.safetensors")
    save_file(outputs, folder / "outputs.safetensors")
    described = {probe: {"mode": "generate" if probe == "gen" else "forward"} for probe in probes}
    if "gen" in described:
        described["gen"]["kwargs"] = {"do_sample": False, **generate}
    meta = {"kind": "transformers", "class": type(model).__name__, "probes": described} | meta
    (folder / "meta.json").write_text(json.dumps(meta))
    return folder


def write_gradients(folder, model, arguments):
    """Norms of the loss's gradients by the keys of the saved file; values tell which parameter each key is."""
    model.eval().zero_grad()
    model(**arguments).loss.backward()
    saved = load_file(folder / "model.safetensors")
    norms = {}
    for key, tensor in saved.items():
        same = [p for p in model.parameters() if p.shape == tensor.shape and torch.equal(p.detach(), tensor)]
        if not same:
            # A buffer.
            assert any(torch.equal(buffer, tensor) for buffer in model.buffers() if buffer.shape == tensor.shape), key
            continue
        norms[key] = 0.0 if same[0].grad is None else float(same[0].grad.double().norm())
    (folder / "grads.json").write_text(json.dumps(norms))
    model.zero_grad()


@torch.no_grad()
def _run(model, arguments, captures):
    found, hooks = {}, []
    for output, path in captures.items():

        def keep(module, args, result, output=output):
            found[output] = result if isinstance(result, torch.Tensor) else result[0]

        hooks.append(model.get_submodule(path).register_forward_hook(keep))
    result = model(**arguments)
    for hook in hooks:
        hook.remove()
    found["logits"] = result.logits
    if "labels" in arguments:
        found["loss"] = result.loss
    return found


@torch.no_grad()
def _generated(model, arguments, options):
    new = model.generate(**arguments, do_sample=False, **options)
    # What was asked stands in front of what is new, or the decoder's start token.
    return {"new_tokens": new[:, -options["max_new_tokens"] :]}
