"""Kosmos-2's decoder: transformers' network, with positions and masks as every other language model takes them."""

from typing import Any

from torch import Tensor
from transformers.models.kosmos2.modeling_kosmos2 import Kosmos2TextForCausalLM

from zoo.attention import AttentionMask


class Kosmos2Decoder(Kosmos2TextForCausalLM):
    """``position_ids`` count from 0, ``attention_mask`` may be (rows, 1, length, length); keys are those of the parent.

    transformers' class takes rows of its table of positions, whose first two are not used, and a mask of padding alone.
    Its generation counts padding on the left among the positions, so that a prompt's answer depends on its neighbours;
    here the positions come from the mask. Embeddings are multiplied by sqrt(width) inside, soft tokens like the others.
    """

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **options: Any,
    ) -> Any:
        if position_ids is not None:
            position_ids = position_ids + self.config.pad_token_id + 1
        if attention_mask is not None and attention_mask.ndim == 4:
            options["zoo_mask"] = AttentionMask.from_dense(attention_mask)
            attention_mask = None
        return super().forward(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            logits_to_keep=logits_to_keep,
            **options,
        )

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        inputs = super().prepare_inputs_for_generation(
            input_ids, attention_mask=attention_mask, inputs_embeds=inputs_embeds, **options
        )
        given = inputs["input_ids"] if inputs.get("inputs_embeds") is None else inputs["inputs_embeds"]
        if attention_mask is not None:
            positions = attention_mask.long().cumsum(-1).sub(1).clamp(min=0)
            inputs["position_ids"] = positions[:, -given.shape[1] :]
        return inputs
