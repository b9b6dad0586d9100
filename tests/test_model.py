"""The model of four parts: splicing, padding, generation, added vocabulary."""

import dataclasses

import pytest
import torch
from tiny import conversation, fill, llama, train_tokenizer
from transformers import GenerationConfig, LlamaForCausalLM

from zoo.connectors import MLP
from zoo.data.batch import pack, pack_rows, pad
from zoo.data.encode import IGNORED_LABEL, stop_ids
from zoo.data.templates import get_template
from zoo.errors import ZooError
from zoo.evaluation.runner import generate_answers
from zoo.factory import build_model, configure
from zoo.language import LanguageModel, LanguageModelConfig, build_language_model
from zoo.language.model import load_tokenizer
from zoo.model import VLM
from zoo.training.tuning import set_train_mode, set_trainable

TOLERANCE = 1e-5
ADDED = ("<region>", "<track>")


@pytest.fixture
def method(tiny_setting):
    return configure("llava-1.5", tiny_setting)


@pytest.fixture
def model(method):
    return build_model(method)


def encode_all(model, samples, **options):
    template = get_template(model.method.template)
    preprocessor = model.preprocessor()
    return [preprocessor(sample, template, **options) for sample in samples]


class TestSplice:
    def test_too_few_positions_name_the_samples(self, model, samples):
        batch = pad(encode_all(model, samples[:3]))
        mask = batch.media_mask.clone()
        mask[1, mask[1].nonzero()[0]] = False
        with pytest.raises(ValueError, match=r"47 media positions but the connector gave 48 .*image, pair, text"):
            model(dataclasses.replace(batch, media_mask=mask))

    def test_connector_that_miscounts_is_refused(self, model, samples):
        num_tokens = model.connector.num_tokens
        model.connector.num_tokens = lambda *media: [count + 1 for count in num_tokens(*media)]
        with pytest.raises(ValueError, match=r"17 media positions but the connector gave 16 .*image"):
            model(pad(encode_all(model, samples[:1])))

    @torch.no_grad()
    def test_soft_tokens_stand_where_the_placeholder_stood(self, model, samples):
        examples = encode_all(model, [samples[1], samples[3], samples[0]])
        batch = pad(examples, side="left")
        embeddings = model.input_embeddings(batch)
        start = 0
        for row, example in enumerate(examples):
            soft = model.soft_tokens(pad([example])).media
            assert torch.allclose(embeddings[row][batch.media_mask[row]], soft, atol=1e-6)
            start += len(soft)
        text = batch.attention_mask & ~batch.media_mask
        assert torch.equal(embeddings[text], model.language_model.embed(batch.ids[text]))
        assert start == batch.media_mask.sum() == (2 + 3 + 1) * 16

    @torch.no_grad()
    def test_every_image_is_seen_and_order_matters(self, model, samples):
        batch = pad(encode_all(model, [samples[1]]))
        plain = model(batch).logits
        swapped = model(dataclasses.replace(batch, frames=batch.frames.flip(0))).logits
        first = int(batch.media_mask[0].nonzero()[0])
        assert torch.allclose(swapped[0, :first], plain[0, :first], atol=TOLERANCE)
        assert (swapped[0, -1] - plain[0, -1]).abs().max() > 100 * TOLERANCE


class TestPadding:
    @torch.no_grad()
    def test_left_and_right_padding_give_equal_logits(self, model, samples):
        examples = encode_all(model, samples)
        left, right = (pad(examples, side=side) for side in ("left", "right"))
        assert not torch.equal(left.attention_mask, right.attention_mask)
        ours, theirs = model(left), model(right)
        difference = ours.logits[left.attention_mask] - theirs.logits[right.attention_mask]
        assert difference.abs().max() < TOLERANCE
        assert float(ours.loss_sum) == pytest.approx(float(theirs.loss_sum), rel=1e-6)

    @torch.no_grad()
    def test_position_embeddings_follow_the_samples(self, tiny_parts, method, samples):
        # Llama's positions are relative; with learned ones a shift by padding or by packed neighbours would show.
        gpt2 = {"model_type": "gpt2", "vocab_size": 420, "n_positions": 512, "n_embd": 32, "n_layer": 2, "n_head": 4}
        language_model = LanguageModelConfig(architecture=gpt2, tokenizer=str(tiny_parts / "language_model"))
        model = build_model(dataclasses.replace(method, language_model=language_model))
        fill(model.language_model, 0.05)
        examples = encode_all(model, samples[:3])
        alone = [model(pad([example])).logits[0] for example in examples]
        left, packed = pad(examples, side="left"), pack_rows([examples])
        together, row = model(left).logits, model(packed).logits[0]
        for number, logits in enumerate(alone):
            assert (together[number, -len(logits) :] - logits).abs().max() < TOLERANCE
        assert (row - torch.cat(alone)).abs().max() < TOLERANCE
        prompts = encode_all(model, samples[:3], generation=True)
        answers = model.generate(pad(prompts, side="left"), max_new_tokens=5, stop_ids=(2,))
        assert answers == [model.generate(pad([p]), max_new_tokens=5, stop_ids=(2,))[0] for p in prompts]

    @torch.no_grad()
    def test_rows_without_media_are_as_alone(self, model, samples):
        mixed, alone = encode_all(model, samples[1:4]), encode_all(model, samples[2:3])
        together, single = model(pad(mixed)).logits[1], model(pad(alone)).logits[0]
        assert (together[: len(single)] - single).abs().max() < TOLERANCE

    @torch.no_grad()
    def test_padding_is_not_seen(self, model, samples):
        batch = pad(encode_all(model, samples))
        other = dataclasses.replace(batch, ids=batch.ids.masked_fill(~batch.attention_mask, 77))
        assert torch.equal(model(batch).logits[batch.attention_mask], model(other).logits[batch.attention_mask])

    @torch.no_grad()
    def test_packed_samples_do_not_see_each_other(self, model, samples):
        examples = encode_all(model, samples[:3])
        row = pack_rows([examples])
        logits = model(row).logits[0]
        spoiled = row.ids.clone()
        spoiled[0, : len(examples[0])] = 77
        other = model(dataclasses.replace(row, ids=spoiled)).logits[0]
        start = len(examples[0])
        assert not torch.equal(logits[:start], other[:start])
        assert torch.equal(logits[start:], other[start:])

    def test_first_token_of_a_document_is_not_predicted_by_the_one_before(self, samples, model):
        examples = encode_all(model, samples[:2])
        examples[1] = dataclasses.replace(examples[1], labels=examples[1].ids)
        packed, padded = pack_rows([examples]), pad(examples)
        assert packed.num_supervised == padded.num_supervised == examples[0].num_supervised + len(examples[1]) - 1

    def test_rows_are_filled_up_to_the_length(self, samples, model):
        examples = encode_all(model, samples)
        longest = max(map(len, examples))
        rows = pack(examples, length=longest + 50)
        assert sorted(e.sample_id for row in rows for e in row) == sorted(e.sample_id for e in examples)
        assert all(sum(map(len, row)) <= longest + 50 for row in rows)
        assert [len(row) for row in pack(examples, length=10)] == [1] * len(examples)

    def test_unknown_side_is_refused(self, samples, model):
        with pytest.raises(ZooError, match="use left or right"):
            pad(encode_all(model, samples[:1]), side="middle")


class TestLoss:
    @torch.no_grad()
    def test_loss_is_the_cross_entropy_of_supervised_tokens(self, model, samples):
        batch = pad(encode_all(model, samples))
        output = model(batch)
        log_probabilities = output.logits.log_softmax(-1)
        total, count = 0.0, 0
        for row in range(len(samples)):
            for position in range(1, batch.ids.shape[1]):
                if batch.labels[row, position] != IGNORED_LABEL:
                    total -= float(log_probabilities[row, position - 1, batch.labels[row, position]])
                    count += 1
        assert output.num_supervised == batch.num_supervised == count
        assert float(output.loss_sum) == pytest.approx(total, rel=1e-5)
        assert sum(float(scores.sum()) for scores in model.score(batch)) == pytest.approx(-total, rel=1e-5)

    def test_media_pass_of_text_only_rows_adds_nothing(self, model, method, samples):
        stage = dataclasses.replace(
            method.stages[-1], train=dict.fromkeys(("encoder", "connector", "language_model"), "full")
        )
        set_trainable(model, stage)
        set_train_mode(model)
        batch = pad(encode_all(model, samples[2:3]))
        trained = model(batch)
        with torch.no_grad():
            assert torch.equal(trained.logits, model.eval()(batch).logits)
        model.train()
        trained.loss_sum.backward()
        for key, parameter in model.connector.named_parameters():
            assert parameter.grad is not None and not parameter.grad.any(), key
        gradients = {key: p.grad.clone() for key, p in model.language_model.named_parameters()}
        model.zero_grad()
        blind = VLM(
            dataclasses.replace(method, encoder=None, connector=None),
            encoder=None,
            connector=None,
            fusion=model.fusion,
            language_model=model.language_model,
        )
        blind(batch).loss_sum.backward()
        assert all(torch.equal(p.grad, gradients[key]) for key, p in model.language_model.named_parameters())

    def test_frozen_encoder_keeps_no_graph(self, model, method, samples):
        set_trainable(model, method.stages[0])
        model(pad(encode_all(model, samples[:1]))).loss_sum.backward()
        assert all(parameter.grad is None for parameter in model.encoder.parameters())
        assert all(parameter.grad is None for parameter in model.language_model.parameters())
        assert all(parameter.grad.any() for parameter in model.connector.parameters())


class TestGeneration:
    def stepwise(self, model, example, num_tokens, ends):
        """Argmax of whole forwards, without a cache."""
        ids = []
        for _ in range(num_tokens):
            extra = torch.tensor(ids, dtype=torch.long)
            longer = dataclasses.replace(
                example,
                ids=torch.cat([example.ids, extra]),
                labels=torch.full((len(example) + len(ids),), IGNORED_LABEL),
                media_mask=torch.cat([example.media_mask, torch.zeros(len(ids), dtype=torch.bool)]),
            )
            token = int(model(pad([longer])).logits[0, -1].argmax())
            if token in ends:
                break
            ids.append(token)
        return ids

    @torch.no_grad()
    @pytest.mark.parametrize("extra_ends", [(), (35, 77, 260, 300)])
    def test_is_the_argmax_of_forward_step_by_step(self, model, samples, extra_ends):
        ends = (*stop_ids(get_template("vicuna_v1"), model.language_model.tokenizer), *extra_ends)
        prompts = encode_all(model, samples, generation=True)
        generated = model.generate(pad(prompts, side="left"), max_new_tokens=8, stop_ids=ends)
        assert generated == [self.stepwise(model, prompt, 8, ends) for prompt in prompts]

    @torch.no_grad()
    def test_stops_at_a_stop_id(self, model, samples):
        prompts = pad(encode_all(model, samples, generation=True), side="left")
        free = model.generate(prompts, max_new_tokens=8, stop_ids=(2,))
        third = free[0][2]
        stopped = model.generate(prompts, max_new_tokens=8, stop_ids=(third,))
        for row, other in zip(free, stopped):
            assert other == (row[: row.index(third)] if third in row else row)
        assert len(stopped[0]) < 3

    @torch.no_grad()
    def test_is_greedy_whatever_the_checkpoint_prefers(self, tiny_parts, method, model, samples, tmp_path):
        language_model = LlamaForCausalLM.from_pretrained(tiny_parts / "language_model")
        language_model.generation_config = GenerationConfig(
            do_sample=True, temperature=2.0, repetition_penalty=3.0, no_repeat_ngram_size=1, bos_token_id=1
        )
        language_model.save_pretrained(tmp_path)
        load_tokenizer(LanguageModelConfig(id=str(tiny_parts / "language_model"))).save_pretrained(tmp_path)
        other = build_model(dataclasses.replace(method, language_model=LanguageModelConfig(id=str(tmp_path))))
        prompts = pad(encode_all(model, samples, generation=True), side="left")
        expected = model.generate(prompts, max_new_tokens=8, stop_ids=(2,))
        assert other.generate(prompts, max_new_tokens=8, stop_ids=(2,)) == expected

    def test_right_padding_is_refused(self, model, samples):
        with pytest.raises(AssertionError, match="left padding"):
            model.generate(pad(encode_all(model, samples, generation=True)), max_new_tokens=2, stop_ids=(2,))

    @torch.no_grad()
    def test_end_as_text_stops_the_answer(self, tiny_setting, samples):
        model = build_model(configure("llava", tiny_setting))
        template = get_template("llava_v0")
        tokenizer = model.language_model.tokenizer
        # A head that always says "A" and then the end of turn, which is text in this template.
        spoken = tokenizer("A\n###", add_special_tokens=False)["input_ids"]
        calls = []

        def say(module, arguments, output):
            token = spoken[len(calls) % len(spoken)]
            calls.append(token)
            return torch.full_like(output, -10.0).index_fill(-1, torch.tensor([token]), 10.0)

        handle = model.language_model.model.lm_head.register_forward_hook(say)
        answers = generate_answers(model, encode_all(model, samples[:2], generation=True), template, max_new_tokens=30)
        handle.remove()
        assert answers == ["A", "A"]
        assert len(calls) == len(spoken)


def language_folder(folder, **fields):
    """A tiny language model in the hub's layout with four rows that no token of its tokenizer uses."""
    tokenizer = train_tokenizer()
    tokenizer.save_pretrained(folder)
    llama(len(tokenizer) + 4, **fields).save_pretrained(folder)
    return LanguageModelConfig(id=str(folder)), len(tokenizer)


class TestAddedVocabulary:
    @pytest.fixture(params=[False, True], ids=["untied", "tied"])
    def both(self, request, tmp_path):
        config, num_tokens = language_folder(tmp_path, tie_word_embeddings=request.param)
        plain, added = (build_language_model(config, added_tokens=tokens) for tokens in ((), ADDED))
        return plain, added, num_tokens, request.param

    def test_base_weights_keep_their_names_and_values(self, both):
        plain, added, _, is_tied = both
        old, new = plain.state_dict(), added.state_dict()
        assert all(torch.equal(new[key], old[key]) for key in old)
        rows = {"model.model.embed_tokens.added", "model.lm_head.added"}
        assert new.keys() - old.keys() == rows
        assert all(new[key].shape == (2, 32) for key in rows)
        parameters = [key for key, _ in added.named_parameters() if key.endswith(".added")]
        assert len(parameters) == (1 if is_tied else 2)
        embedding, head = added.model.get_input_embeddings(), added.model.get_output_embeddings()
        assert (head.weight is embedding.weight) == is_tied == (head.added is embedding.added)

    @torch.no_grad()
    def test_base_ids_have_unchanged_logits(self, both):
        plain, added, num_tokens, _ = both
        ids = torch.randint(0, num_tokens, (2, 9), generator=torch.Generator().manual_seed(0))
        old, new = plain.model(ids).logits, added.model(ids).logits
        assert new.shape[-1] == num_tokens + 2
        assert torch.equal(new[..., :num_tokens], old[..., :num_tokens])

    @torch.no_grad()
    def test_added_ids_read_and_score_their_own_rows(self, both):
        _, added, num_tokens, is_tied = both
        assert added.tokenizer.convert_tokens_to_ids(list(ADDED)) == [num_tokens, num_tokens + 1]
        embedding, head = added.model.get_input_embeddings(), added.model.get_output_embeddings()
        assert torch.allclose(embedding.added[0], embedding.weight.mean(0), atol=1e-6)
        embedding.added.copy_(torch.randn(2, 32, generator=torch.Generator().manual_seed(1)))
        head.added.copy_(torch.randn(2, 32, generator=torch.Generator().manual_seed(1 if is_tied else 2)))
        ids = torch.tensor([[5, num_tokens, num_tokens + 1, 7]])
        embedded = added.embed(ids)
        assert torch.equal(embedded[0, 1:3], embedding.added)
        assert torch.equal(embedded[0, [0, 3]], embedding.weight[[5, 7]])
        hidden = added.model.model(ids).last_hidden_state
        assert torch.allclose(added.model(ids).logits[..., num_tokens:], hidden @ head.added.T, atol=1e-6)
        assert torch.equal(embedding.added, head.added) == is_tied

    def test_only_used_rows_get_gradient(self, both):
        _, added, num_tokens, is_tied = both
        logits = added.model(torch.tensor([[5, num_tokens + 1, 7]])).logits
        torch.nn.functional.cross_entropy(logits[0], torch.tensor([4, 6, num_tokens])).backward()
        embedding, head = added.model.get_input_embeddings(), added.model.get_output_embeddings()
        assert embedding.added.grad[1].any() and head.added.grad.any()
        assert embedding.added.grad[0].any() == is_tied
        assert not head.weight.grad[num_tokens:].any(), "rows beyond the tokenizer are no classes"

    @torch.no_grad()
    def test_generates_added_tokens(self, both):
        _, added, num_tokens, _ = both
        ids = torch.tensor([[1, 5, num_tokens, 9]])
        embedding, head = added.model.get_input_embeddings(), added.model.get_output_embeddings()
        embedding.added.copy_(torch.randn(2, 32, generator=torch.Generator().manual_seed(1)))
        head.added[1] = 5 * added.model.model(ids).last_hidden_state[0, -1]
        generated = added.model.generate(
            inputs_embeds=added.embed(ids), max_new_tokens=4, do_sample=False, eos_token_id=2, pad_token_id=0
        )[0].tolist()
        assert generated[0] == num_tokens + 1
        for position, token in enumerate(generated):
            longer = torch.tensor([[*ids[0].tolist(), *generated[:position]]])
            assert token == int(added.model(longer).logits[0, -1].argmax())

    def test_token_that_exists_is_refused_by_name(self, tmp_path):
        config, _ = language_folder(tmp_path)
        with pytest.raises(ZooError, match=r"\['<s>'\] are in the vocabulary"):
            load_tokenizer(config, ("<region>", "<s>"))
        with pytest.raises(ZooError, match="holds a token twice"):
            load_tokenizer(config, ("<region>", "<region>"))


class TestLanguageModel:
    def test_missing_tokenizer_is_said(self):
        with pytest.raises(ZooError, match=r"set language_model\.tokenizer"):
            _ = LanguageModel(llama(20), None).tokenizer

    def test_unreachable_id_is_one_line(self, tmp_path):
        with pytest.raises(ZooError, match=r"cannot load language model .*ZOO_PATHS") as caught:
            build_language_model(LanguageModelConfig(id=str(tmp_path / "none")))
        assert "\n" not in str(caught.value)

    def save(self, folder, tiny_parts, model, **options):
        model.save_pretrained(folder, **options)
        load_tokenizer(LanguageModelConfig(id=str(tiny_parts / "language_model"))).save_pretrained(folder)
        return LanguageModelConfig(id=str(folder))

    def test_checkpoint_with_a_missing_key_is_refused(self, tiny_parts, tmp_path):
        state = {key: value for key, value in llama(420).state_dict().items() if "layers.1.self_attn.q_proj" not in key}
        config = self.save(tmp_path, tiny_parts, llama(420), state_dict=state)
        with pytest.raises(ZooError, match=r"1 missing keys, first model\.layers\.1\.self_attn\.q_proj\.weight"):
            build_language_model(config)

    def test_checkpoint_of_another_shape_is_refused(self, tiny_parts, tmp_path):
        config = self.save(tmp_path, tiny_parts, llama(420))
        llama(420, intermediate_size=48).config.save_pretrained(tmp_path)
        with pytest.raises(ZooError, match=r"6 mismatched keys, first .*model\.layers\.0\.mlp") as caught:
            build_language_model(config)
        assert "\n" not in str(caught.value)

    def test_known_name_or_its_hub_id_may_be_mapped(self, tiny_parts, tmp_path, monkeypatch):
        for number, id in enumerate(("vicuna-7b-v1.5", "lmsys/vicuna-7b-v1.5")):
            file = tmp_path / f"{number}.yaml"
            file.write_text(f"{id}: {tiny_parts / 'language_model'}\n")
            monkeypatch.setenv("ZOO_PATHS", str(file))
            assert build_language_model(LanguageModelConfig(id="vicuna-7b-v1.5")).dim == 32

    def test_random_weights_need_a_model_type(self):
        with pytest.raises(ZooError, match="needs model_type"):
            build_language_model(LanguageModelConfig(architecture={"hidden_size": 8}))
        with pytest.raises(ZooError, match="neither id nor architecture"):
            build_language_model(LanguageModelConfig())
        with pytest.raises(ZooError, match="both given"):
            build_language_model(LanguageModelConfig(id="vicuna-7b-v1.5", architecture={"model_type": "llama"}))


@torch.no_grad()
def test_depth_of_the_projection_is_its_number_of_layers(model, method, samples):
    deep = build_model(dataclasses.replace(method, connector=MLP(depth=3)))
    x = torch.randn(2, 16, 32, generator=torch.Generator().manual_seed(0))
    features = type("F", (), {"tokens": x})()
    first, second, third = deep.connector.layers
    gelu = torch.nn.functional.gelu
    expected = third(gelu(second(gelu(first(x)))))
    assert torch.allclose(deep.connector(features, None), expected.flatten(0, 1), atol=1e-6)
    assert deep.connector.num_tokens([1, 3], [False, True]) == [16, 48]


def test_sample_helper_makes_valid_samples(samples):
    for sample in (*samples, conversation("x", [("Hello?", "Yes.")])):
        assert sample.validate() is sample
