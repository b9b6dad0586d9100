"""A language model with its tokenizer. The network is transformers' own class; nothing of it is copied or patched."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from zoo.attention import register
from zoo.errors import ZooError
from zoo.language.added_vocabulary import extend
from zoo.language.known import KNOWN
from zoo.language.kosmos_2 import Kosmos2Decoder
from zoo.paths import quiet, resolve
from zoo.unfilled import unfilled

# transformers has no causal class for this configuration, so that nothing of its own is replaced.
AutoModelForCausalLM.register(Kosmos2Decoder.config_class, Kosmos2Decoder, exist_ok=True)


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig:
    """``id`` is a known name (zoo/language/known.py), a hub id, a local folder, or zoo:NAME for packaged weights.

    ``architecture`` holds fields of transformers' config, model_type among them: random weights where there is no id.
    ``tokenizer`` is the id or folder of the tokenizer, if it is not the model's. ``overrides`` are fields of the
    checkpoint's config that the method changes (BLIP-2 loads Flan-T5 with another activation).
    ``has_added_tokens``: the method's added tokens are in this vocabulary already, so that no rows are added for them.
    """

    id: str = ""
    revision: str | None = None
    architecture: dict[str, Any] = field(default_factory=dict)
    tokenizer: str | None = None
    overrides: dict[str, Any] = field(default_factory=dict)
    has_added_tokens: bool = False

    @property
    def model_type(self) -> str:
        """transformers' name of the architecture where it is known without reading a file, else empty."""
        fields = self.architecture or KNOWN.get(self.id, {}).get("architecture", {})
        return fields.get("model_type", "")


class LanguageModel(nn.Module):
    """``model`` is the transformers network, ``tokenizer`` reads and writes its ids (added tokens included)."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None, num_added: int = 0) -> None:
        super().__init__()
        self.model = model
        self._tokenizer = tokenizer
        self.num_added = num_added
        # A checkpoint's own preferences (sampling, repetition penalty) would change what greedy decoding means.
        model.generation_config = GenerationConfig.from_model_config(model.config)
        if num_added:
            extend(model, num_added, len(tokenizer) - num_added if tokenizer else None)

    @property
    def has_tokenizer(self) -> bool:
        return self._tokenizer is not None

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Raises ZooError where there is none."""
        if self._tokenizer is None:
            raise ZooError("this language model was built without a tokenizer; set language_model.tokenizer to one")
        return self._tokenizer

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether the prompt goes through an encoder and the answer through a decoder (T5)."""
        return bool(self.model.config.is_encoder_decoder)

    def accepts(self, argument: str) -> bool:
        """Whether the network's forward has an argument of this name."""
        return argument in inspect.signature(self.model.forward).parameters

    @contextmanager
    def projecting_only(self, positions: Tensor) -> Iterator[None]:
        """Inside, the network's logits are (n, vocabulary): of the n True positions of (rows, up to length)."""

        def pick(head: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
            return (args[0][:, : positions.shape[1]][positions],)

        handle = self.model.get_output_embeddings().register_forward_pre_hook(pick)
        try:
            yield
        finally:
            handle.remove()

    def shifted_right(self, labels: Tensor) -> Tensor:
        """The decoder's input for its target (rows, length): the start token, then all but the last id."""
        start, pad = self.model.config.decoder_start_token_id, self.model.config.pad_token_id
        filled = labels.masked_fill(labels < 0, 0 if pad is None else pad)
        return torch.cat([filled.new_full((len(labels), 1), start), filled[:, :-1]], dim=1)

    @property
    def dim(self) -> int:
        return self.model.get_input_embeddings().embedding_dim

    def embed(self, ids: Tensor) -> Tensor:
        """ids (rows, length) -> (rows, length, dim)."""
        return self.model.get_input_embeddings()(ids)


def _load_config(config: LanguageModelConfig) -> Any:
    loaded = _plain_config(config)
    for key, value in config.overrides.items():
        setattr(loaded, key, value)
    return loaded


def _plain_config(config: LanguageModelConfig) -> Any:
    known = KNOWN.get(config.id)
    if config.architecture:
        values = dict(config.architecture)
        if "model_type" not in values:
            raise ZooError("language_model.architecture needs model_type (llama, qwen2, opt, ...); add it")
        return AutoConfig.for_model(values.pop("model_type"), **values)
    if known:
        values = dict(known["architecture"])
        return AutoConfig.for_model(values.pop("model_type"), **values)
    return _reach(config.id, lambda: AutoConfig.from_pretrained(_locate(config.id), revision=config.revision))


def _untie(model: PreTrainedModel) -> None:
    """Give the head a matrix of its own: T5's config ties it in every case, yet Flan-T5's weights are not tied."""
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if head.weight is embedding.weight:
        head.weight = nn.Parameter(head.weight.detach().clone())
        model.config.tie_word_embeddings = False


def _class_for(hf_config: Any) -> Any:
    return AutoModelForSeq2SeqLM if hf_config.is_encoder_decoder else AutoModelForCausalLM


def _locate(id: str) -> str:
    """A folder or hub id. The short name of a known model and its hub id may both be mapped to a folder."""
    location = resolve(id)
    return resolve(KNOWN[id]["id"]) if location == id and id in KNOWN else location


def _reach(id: str, load: Any) -> Any:
    try:
        with quiet():
            return load()
    except ZooError:
        raise
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ZooError(
            f"cannot load language model {id!r}: {reason}; give a hub id, a folder in the hub's layout, or map the id "
            "to a folder in the file named by ZOO_PATHS"
        ) from None


def load_instruction_tokenizer(id: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a connector that reads the users' text. Raises ZooError when it cannot be reached."""
    return _reach(id, lambda: AutoTokenizer.from_pretrained(resolve(id)))


def load_tokenizer(config: LanguageModelConfig, added_tokens: tuple[str, ...] = ()) -> PreTrainedTokenizerBase | None:
    """The tokenizer of a language model; None for random weights that name none.

    Raises:
        ZooError: it cannot be reached, or an added token is in the vocabulary already.
    """
    id = config.tokenizer or config.id
    if not id:
        return None
    revision = None if config.tokenizer else config.revision
    tokenizer = _reach(id, lambda: AutoTokenizer.from_pretrained(_locate(id), revision=revision))
    vocabulary = tokenizer.get_vocab() if added_tokens else {}
    ids = [vocabulary.get(token) for token in added_tokens]
    # The tokenizer of a checkpoint that was saved with rows for them has them as its last ones.
    if ids != list(range(len(tokenizer) - len(ids), len(tokenizer))):
        if taken := [token for token in added_tokens if token in vocabulary]:
            raise ZooError(
                f"added tokens {taken} are in the vocabulary of {id!r} already; remove them from added_tokens"
            )
        if tokenizer.add_tokens(list(added_tokens), special_tokens=True) != len(added_tokens):
            raise ZooError(f"added_tokens {list(added_tokens)} holds a token twice; name each once")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    return tokenizer


def build_language_model(
    config: LanguageModelConfig,
    *,
    added_tokens: tuple[str, ...] = (),
    pretrained: bool = True,
    tokenizer: bool = True,
    dtype: torch.dtype = torch.float32,
    attention: str = "auto",
    filled_later: bool = False,
) -> LanguageModel:
    """Build a causal or encoder-decoder language model, whichever its config says.

    Args:
        pretrained: False builds from the config alone (on the current device, meta included) and reads no weights.
        tokenizer: False leaves the tokenizer out, so that a known name needs no file at all.
        filled_later: what is built from its config alone has its matrices on the meta device (``zoo.unfilled``).

    Raises:
        ZooError: unreachable id, a checkpoint with missing or unexpected keys.
    """
    if config.id and config.architecture:
        raise ZooError(f"language_model: id {config.id!r} and architecture are both given; leave one of them empty")
    if not config.id and not config.architecture:
        raise ZooError("language_model has neither id nor architecture; set language_model.id")
    register()
    if config.has_added_tokens:
        added_tokens = ()
    implementation = "zoo" if attention == "auto" else f"zoo_{attention}"
    loaded_tokenizer = load_tokenizer(config, added_tokens) if tokenizer else None
    if config.architecture or not pretrained:
        hf_config = _load_config(config)
        with unfilled(filled_later):
            model = _class_for(hf_config).from_config(hf_config, attn_implementation=implementation, dtype=dtype)
        fields = config.architecture or KNOWN.get(config.id, {}).get("architecture", {})
        if fields.get("tie_word_embeddings") is False:
            _untie(model)
    else:
        id = _locate(config.id)
        if not Path(id).is_dir() and Path(id).exists():
            raise ZooError(f"language model {config.id!r} is a file; give the folder that holds config.json")
        # The file's own config, not a known name's: it may say more (rope scaling, a later vocabulary).
        hf_config = _reach(config.id, lambda: AutoConfig.from_pretrained(id, revision=config.revision))
        for key, value in config.overrides.items():
            setattr(hf_config, key, value)
        model, report = _reach(
            config.id,
            lambda: _class_for(hf_config).from_pretrained(
                id,
                config=hf_config,
                revision=config.revision,
                dtype=dtype,
                attn_implementation=implementation,
                # Mismatches come back in the report, and are refused below with their names.
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            ),
        )
        for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
            if keys := sorted(str(key) for key in report.get(problem, ())):
                raise ZooError(
                    f"language model {config.id!r}: {len(keys)} {problem.replace('_', ' ')}, first {keys[0]}; "
                    "the checkpoint does not fit its config.json"
                )
    return LanguageModel(model, loaded_tokenizer, num_added=len(added_tokens))
