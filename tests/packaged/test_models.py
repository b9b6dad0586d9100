"""Converters of the models: each gives back, to the bit, the network that its package's file was made from."""

import io
import json

import gguf
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from packages import wheel
from tiny import llama, train_tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, Dinov2Config, Dinov2Model

from zoo.encoders import EncoderConfig, build_encoder
from zoo.encoders.efficientnet_lite import EfficientNetLiteConfig, EfficientNetLiteModel, SameConvolution
from zoo.errors import ZooError
from zoo.packaged import cnn, language_model, vit


def package(folder, name, content):
    file = folder / "package.whl"
    file.write_bytes(wheel("tiny", "1.0", {name: content}))
    out = folder / "out"
    out.mkdir()
    return [file], out


def filled(model, std=0.2):
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * std)
    return model.eval()


def exported(model):
    """The graph as the exporter left it: matrices anonymous and transposed, positions in two parts."""
    initializers, nodes, number = [], [], 0
    for name, tensor in model.state_dict().items():
        array = tensor.numpy()
        # The names of the release that the file was exported with.
        name = name.replace("attention.q_proj", "attention.attention.query")
        if name == "embeddings.mask_token":
            continue
        if name == "embeddings.position_embeddings":
            for part in (array[:, 1:], array[:, :1]):
                number += 1
                initializers.append(constant(f"onnx::Reshape_{number}", part))
                nodes.append(
                    helper.make_node("Identity", [f"onnx::Reshape_{number}"], [f"p{number}"], name="/backbone/p")
                )
        elif array.ndim == 2 and name.endswith(".weight"):
            number += 1
            initializers.append(constant(f"onnx::MatMul_{number}", array.T))
            path = "/".join(["", "backbone", *node_path(name.removesuffix(".weight")), "MatMul"])
            nodes.append(helper.make_node("MatMul", ["x", f"onnx::MatMul_{number}"], [f"y{number}"], name=path))
        else:
            initializers.append(constant(f"backbone.{name}", array))
    initializers.append(constant("decoder.weight", np.ones((2, 2), np.float32)))
    return helper.make_model(helper.make_graph(nodes, "g", [], [], initializers)).SerializeToString()


def node_path(name):
    """``encoder.layer.0.mlp.fc1`` -> encoder, layer.0, mlp, fc1."""
    parts = name.split(".")
    at = parts.index("layer")
    return [*parts[:at], ".".join(parts[at : at + 2]), *parts[at + 2 :]]


def constant(name, array):
    array = np.ascontiguousarray(array, dtype=np.float32)
    return helper.make_tensor(name, TensorProto.FLOAT, array.shape, array.tobytes(), raw=True)


@pytest.fixture
def dinov2():
    config = Dinov2Config(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=1, mlp_ratio=2, image_size=28, patch_size=7
    )
    return filled(Dinov2Model(config))


def test_vision_transformer(dinov2, tmp_path):
    files, out = package(tmp_path, "models/vit.onnx", exported(dinov2))
    vit.convert(files, out)
    pixels = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(1))
    encoder = build_encoder(EncoderConfig(id=str(out), layer=-1))
    assert encoder.grid == (4, 4) and encoder.num_tokens == 16
    expected = dinov2(pixels, output_hidden_states=True).hidden_states[-1][:, 1:]
    torch.testing.assert_close(encoder(pixels).tokens, expected, rtol=1e-5, atol=1e-5)
    assert {file.name for file in out.iterdir()} == {"config.json", "model.safetensors"}


def test_graph_with_a_part_missing_is_refused(dinov2, tmp_path):
    graph = onnx.load_from_string(exported(dinov2))
    kept = [tensor for tensor in graph.graph.initializer if tensor.name != "backbone.layernorm.bias"]
    del graph.graph.initializer[:]
    graph.graph.initializer.extend(kept)
    files, out = package(tmp_path, "vit.onnx", graph.SerializeToString())
    with pytest.raises(ZooError, match=r"is no Dinov2Model .*layernorm\.bias"):
        vit.convert(files, out)


def released(model):
    """The checkpoint's names from ours."""
    parts = {
        "expand": ("_expand_conv", "_bn0"),
        "depthwise": ("_depthwise_conv", "_bn1"),
        "project": ("_project_conv", "_bn2"),
    }
    state = {"_fc.weight": torch.zeros(3, 4), "_fc.bias": torch.zeros(3)}
    for name, tensor in model.state_dict().items():
        pieces = name.split(".")
        if pieces[0] == "blocks":
            theirs = f"_blocks.{pieces[1]}.{parts[pieces[2]][pieces[3] == 'norm']}.{pieces[-1]}"
        else:
            known = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}
            theirs = f"{known[pieces[0]][pieces[1] == 'norm']}.{pieces[-1]}"
        state[theirs] = tensor
    return state


def saved(state):
    stream = io.BytesIO()
    torch.save(state, stream)
    return stream.getvalue()


class TestConvolutionalNetwork:
    def test_every_tensor_is_taken(self, tmp_path):
        model = filled(EfficientNetLiteModel(EfficientNetLiteConfig()), 0.01)
        # What the package's file holds: 296 tensors, two of them the classifier's.
        assert len(released(model)) == 296
        files, out = package(tmp_path, "models/net.pth", saved(released(model)))
        cnn.convert(files, out)
        encoder = build_encoder(EncoderConfig(id=str(out)))
        pixels = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
        features = encoder(pixels)
        assert features.tokens.shape == (2, 49, 1280) and features.grid == (7, 7) and features.class_token is None
        assert torch.equal(features.tokens, model(pixels).last_hidden_state)
        # 0 and 255 as the weights were trained with them.
        assert (encoder.transform.mean[0] * 255, encoder.transform.std[0] * 255) == pytest.approx((127, 128))
        with pytest.raises(ZooError, match="layer -2 does not exist"):
            build_encoder(EncoderConfig(id=str(out), layer=-2))

    def test_missing_tensor_is_refused(self, tmp_path):
        state = released(EfficientNetLiteModel(EfficientNetLiteConfig()))
        del state["_blocks.3._bn2.bias"]
        files, out = package(tmp_path, "net.pth", saved(state))
        with pytest.raises(ZooError, match=r"blocks\.3\.project\.norm\.bias"):
            cnn.convert(files, out)

    def test_padding_is_tensorflows(self):
        """Of an even side and stride 2, the odd pixel goes right and below: the first window begins at pixel 0."""
        layer = SameConvolution(1, 1, 3, 2, activated=False).eval()
        with torch.no_grad():
            layer.convolution.weight.copy_(torch.arange(9.0).reshape(1, 1, 3, 3))
            image = torch.zeros(1, 1, 4, 4)
            image[0, 0, 0, 0] = 1.0
            assert layer(image)[0, 0, 0, 0] == pytest.approx(0.0, abs=1e-6)
            image[0, 0, 0, 0], image[0, 0, 2, 2] = 0.0, 1.0
            assert layer(image)[0, 0, 0, 0] == pytest.approx(8.0, rel=1e-2)


def permuted(weight, num_heads):
    """llama.cpp's order of the rows of query and key: the halves of each head interleaved."""
    return weight.reshape(num_heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def test_language_model(tmp_path):
    tokenizer = train_tokenizer()
    # As of the real one: 64 wide, grouped queries, input and output rows tied.
    model = llama(len(tokenizer), hidden_size=64, tie_word_embeddings=True).eval()
    config = model.config
    file = tmp_path / "tiny.gguf"
    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_name("an internal run")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    words = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_types([3 if number < 3 else 1 for number in range(len(words))])
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    names = {
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
    }
    for name, tensor in model.state_dict().items():
        array = tensor.numpy()
        if name.startswith("model.layers."):
            _, _, layer, inner = name.removesuffix(".weight").split(".", 3)
            heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(names[inner])
            writer.add_tensor(f"blk.{layer}.{names[inner]}.weight", permuted(array, heads) if heads else array)
        elif name != "lm_head.weight":
            writer.add_tensor({"model.embed_tokens.weight": "token_embd.weight"}.get(name, "output_norm.weight"), array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    files, out = package(tmp_path, "tiny/tiny.gguf", file.read_bytes())
    language_model.convert(files, out)
    ids = torch.tensor([[1, 5, 9, 30, 7]])
    again, report = AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    torch.testing.assert_close(again(ids).logits, model(ids).logits, rtol=1e-5, atol=1e-5)
    text = "What colour is the square?"
    assert AutoTokenizer.from_pretrained(out)(text).input_ids == tokenizer(text).input_ids
    written = json.loads((out / "config.json").read_text())
    assert "quantization_config" not in written
    assert not any(text in json.dumps(written) for text in (str(tmp_path), "internal run"))
