"""Switches of a stack: fields by which people's stacks differ from ours, one by one, and whole families of them."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from attnlib.cases.text import fields_of
from attnlib.model.config import choose

USUAL = {  # fields that switches change, as a stack has them without
    "pe": "rotary",
    "block": "pre_ln",
    "norm": "layer",
    "kv_heads": None,
    "qk_norm": False,
    "window": None,
    "softmax": "usual",
    "gate": "none",
    "value_residual": False,
    "activation": "relu",
    "depth_scale": "none",
}
SWITCHES = (  # each as the fields that it changes
    *("norm=rms", "block=lns", "depth_scale=gpt2", "depth_scale=depth_mup", "value_residual=true"),
    *("kv_heads=2", "kv_heads=1", "qk_norm=true", "softmax=plus_one", "gate=sigmoid", "window=64"),
    *("activation=gelu", "activation=swiglu", "activation=geglu"),
    *("pe=rotary_partial", "pe=rotary_ntk", "pe=rotary_yarn", "pe=cope"),
)
NONE = "none"  # the stack without any, beside itself


class Stack(NamedTuple):
    """A family of stacks that people build.

    Args:
        source: where its switches are described.
        fields: its switches.
        shared: heads of queries that share one of keys and values; fewer if this does not divide their number.
    """

    source: str
    fields: Mapping[str, Any]
    shared: int = 1

    def switches(self, n_heads: int) -> dict[str, Any]:
        """Return all fields by which stacks differ, for a number of heads; sizes are the user's."""
        kv_heads = n_heads // math.gcd(n_heads, self.shared) if self.shared > 1 else None
        return {**USUAL, "causal": True, "ffn_mult": 4, **self.fields, "kv_heads": kv_heads}


STACKS = {
    "vanilla": Stack("arXiv 1706.03762", {"block": "post_ln", "pe": "sinusoidal"}),
    "gpt2": Stack(
        "Radford et al. 2019, Language Models are Unsupervised Multitask Learners, section 2.3",
        {"pe": "learned_0.02", "activation": "gelu", "depth_scale": "gpt2"},
    ),
    "llama": Stack("arXiv 2407.21783", {"norm": "rms", "activation": "swiglu"}, shared=4),
    "gemma": Stack(
        "arXiv 2503.19786", {"block": "peri_ln", "norm": "rms", "activation": "geglu", "qk_norm": True}, shared=2
    ),
}


def fields_of_switch(switch: str, n_heads: int) -> dict[str, Any]:
    """Return the fields that a switch changes, such as ``kv_heads=1``, or a family, ``stack=llama``; none of ``none``.

    Raises:
        ValueError: it names no fields, **or** no such family.
    """
    if switch == NONE:
        return {}
    fields = fields_of(switch)
    if (stack := fields.pop("stack", None)) is not None:
        fields |= choose("stack", stack, STACKS).switches(n_heads)
    return fields
