"""How answers are found: greedy or by beams, or by the likelihood of given candidates."""

from dataclasses import dataclass
from typing import Any

from zoo.errors import ZooError

NORMALISATIONS = ("sum", "mean")


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How answers are found. Stored with every prediction.

    ``mode`` greedy generates (with ``num_beams`` above 1 by beam search); likelihood ranks an item's candidates by the
    log-probability of their tokens (end of turn included), summed or averaged over tokens as ``normalisation`` says.
    ``length_penalty``, ``min_new_tokens`` and ``repetition_penalty`` are those of transformers' generate.
    ``prompt_form`` is inference or training: see ``zoo.definition.EvaluationSetting``.

    Raises:
        ZooError: an unknown word, or a number out of range.
    """

    mode: str = "greedy"
    max_new_tokens: int = 16
    normalisation: str = "sum"
    prompt_form: str = "inference"
    num_beams: int = 1
    length_penalty: float = 1.0
    min_new_tokens: int = 0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if self.mode not in ("greedy", "likelihood"):
            raise ZooError(f"unknown decoding {self.mode!r}; use greedy or likelihood")
        if self.normalisation not in NORMALISATIONS:
            raise ZooError(f"unknown normalisation {self.normalisation!r}; use sum or mean")
        if self.prompt_form not in ("inference", "training"):
            raise ZooError(f"unknown prompt_form {self.prompt_form!r}; use inference or training")
        if self.max_new_tokens < 1 or self.num_beams < 1 or self.repetition_penalty <= 0:
            raise ZooError(
                f"decoding with {self.max_new_tokens} new tokens, {self.num_beams} beams and repetition penalty "
                f"{self.repetition_penalty} is not possible; give at least 1, 1 and more than 0"
            )

    @property
    def generation(self) -> dict[str, Any]:
        """Options of transformers' generate beyond the number of new tokens; empty where the decoding is plain."""
        options: dict[str, Any] = {}
        if self.num_beams > 1:
            options |= {"num_beams": self.num_beams, "length_penalty": self.length_penalty}
        if self.min_new_tokens:
            options["min_new_tokens"] = self.min_new_tokens
        if self.repetition_penalty != 1:
            options["repetition_penalty"] = self.repetition_penalty
        return options

    def describe(self) -> str:
        """Everything in one line; the numbers of two different lines are not comparable."""
        prompts = f"{self.prompt_form} prompts"
        if self.mode == "likelihood":
            return f"likelihood, {self.normalisation} over tokens, {prompts}"
        words = "greedy"
        if self.num_beams > 1:
            words = f"{self.num_beams} beams, length penalty {self.length_penalty:g}"
        if self.repetition_penalty != 1:
            words += f", repetition penalty {self.repetition_penalty:g}"
        least = f"at least {self.min_new_tokens} and " if self.min_new_tokens else ""
        return f"{words}, {least}at most {self.max_new_tokens} new tokens, {prompts}"
