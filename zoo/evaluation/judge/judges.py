"""Who grades: an OpenAI-compatible endpoint, a language model on this machine, or replies recorded earlier."""

import hashlib
import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from zoo.errors import ZooError, nearest
from zoo.evaluation.entries import get_value, iterate_entries

Messages = Sequence[Mapping[str, str]]
KEY_VARIABLE = "OPENAI_API_KEY"
TIMEOUT_SECONDS = 120
LONGEST_REPLY = 1024


class Judge(Protocol):
    """``name`` says which model; ``version`` what the model calls itself. Both stand beside what it graded."""

    name: str
    version: str

    def ask(self, messages: Messages, *, max_tokens: int | None, temperature: float) -> str:
        """The reply to a conversation of ``{role, content}``."""


def fingerprint(messages: Messages) -> str:
    """What a recorded reply is found by: SHA-256 of the conversation."""
    return hashlib.sha256(json.dumps(list(map(dict, messages)), ensure_ascii=False).encode()).hexdigest()


class Recorded:
    """Replies of another judge, from lines of ``{prompt, reply, judge, version}`` as ``grade`` writes them."""

    def __init__(self, path: str | Path) -> None:
        self.path, self.replies, names, versions = path, {}, set(), set()
        for where, entry in iterate_entries(path, None):
            self.replies[get_value(entry, "prompt", str, where)] = get_value(entry, "reply", str, where)
            names.add(get_value(entry, "judge", str, where))
            versions.add(get_value(entry, "version", str, where))
        if len(names) != 1:
            raise ZooError(f"{path}: replies of {len(names)} judges; keep one judge a file")
        self.name, self.version = names.pop(), ", ".join(sorted(versions))

    def ask(self, messages: Messages, *, max_tokens: int | None, temperature: float) -> str:
        """The recorded reply to exactly these messages. Raises ZooError where there is none."""
        found = self.replies.get(fingerprint(messages))
        if found is None:
            asked = messages[-1]["content"]
            raise ZooError(f"{self.path}: no reply to {asked[-80:]!r} is recorded; the answers or the prompt changed")
        return found


class Endpoint:
    """A server that speaks OpenAI's chat protocol; the key is read from the environment (OPENAI_API_KEY)."""

    def __init__(self, model: str, url: str) -> None:
        self.model, self.url = model, url.rstrip("/")
        self.name = f"{model} at {self.url}"
        self.version = "unknown before the first reply"

    def ask(self, messages: Messages, *, max_tokens: int | None, temperature: float) -> str:
        """``version`` becomes what the server says. Raises ZooError where it cannot be reached or refuses."""
        body: dict[str, Any] = {"model": self.model, "messages": list(map(dict, messages)), "temperature": temperature}
        if max_tokens is not None:
            body["max_tokens"] = max_tokens
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(KEY_VARIABLE):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(f"{self.url}/chat/completions", json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
                answer = json.load(response)
            self.version = str(answer.get("model", self.model))
            return str(answer["choices"][0]["message"]["content"])
        except (urllib.error.URLError, TimeoutError) as error:
            raise ZooError(f"judge {self.url}: {error}; check the address and {KEY_VARIABLE}") from error
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise ZooError(f"judge {self.url}: its reply is not of the chat protocol ({error!r})") from error


class Local:
    """A causal language model with a chat template, greedy (whatever the published temperature)."""

    def __init__(self, folder: str) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder)
            self.model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ZooError(f"judge {folder}: {reason:.200}; give a folder or hub id of a language model") from error
        self.model.to("cuda" if torch.cuda.is_available() else "cpu")
        self.name = f"{folder} (local, greedy)"
        self.version = str(getattr(self.model.config, "_commit_hash", None) or folder)

    def ask(self, messages: Messages, *, max_tokens: int | None, temperature: float) -> str:
        """Greedy reply of at most ``max_tokens`` tokens."""
        ids = self.tokenizer.apply_chat_template(
            list(map(dict, messages)), add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(self.model.device)
        new = self.model.generate(**ids, max_new_tokens=max_tokens or LONGEST_REPLY, do_sample=False)
        return self.tokenizer.decode(new[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)


def open_judge(spec: str) -> Judge:
    """``recorded:FILE``, ``openai:MODEL@URL`` or ``local:FOLDER``. Raises ZooError for anything else."""
    kind, _, rest = spec.partition(":")
    if kind == "recorded" and rest:
        return Recorded(rest)
    if kind == "openai" and "@" in rest:
        return Endpoint(*rest.split("@", 1))
    if kind == "local" and rest:
        return Local(rest)
    known = nearest(kind, ["recorded", "openai", "local"])
    raise ZooError(f"judge {spec!r} is unknown.{known} Write recorded:FILE, openai:MODEL@URL or local:FOLDER")
