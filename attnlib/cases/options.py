"""Options of a session: help text, function that reads the value, and the field of a case that it sets.

Texts are read here without torch; names are looked up, and devices opened, when the session starts.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from attnlib.cases.text import bytes_of, fields_of
from attnlib.errors import message


def integers(flag: str, text: str) -> tuple[int, ...]:
    """Read ``64,128`` as integers in the order given, each once.

    Raises:
        ValueError: an entry is not a positive integer; the message names the option and the value.
    """
    entries = text.replace(",", " ").split()
    if not entries or any(not e.isascii() or not e.isdigit() or int(e) < 1 for e in entries):
        raise ValueError(message(f"{flag} takes positive integers separated by commas", text))
    return tuple(dict.fromkeys(int(e) for e in entries))


def integer(flag: str, text: str) -> int:
    """Read one positive integer; raises as ``integers`` does."""
    numbers = integers(flag, text)
    if len(numbers) != 1:
        raise ValueError(message(f"{flag} takes one positive integer", text))
    return numbers[0]


def integer_or_all(flag: str, text: str) -> int | None:
    """Read one positive integer, or ``all`` as None; raises as ``integers`` does."""
    return None if text == "all" else integer(flag, text)


def number(flag: str, text: str) -> float:
    """Read a positive number; raises as ``integers`` does."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ValueError(message(f"{flag} takes a positive number", text))
    return value


def byte_count(flag: str, text: str) -> int:
    """Read a number of bytes such as ``6.5GiB``, or ``none`` as 0; raises as ``integers`` does."""
    try:
        return 0 if text == "none" else bytes_of(text)
    except ValueError:
        raise ValueError(
            message(f"{flag} takes a positive number of bytes such as 800MiB or 6.5GiB, or none", text)
        ) from None


def truth(flag: str, text: str) -> bool:
    """Read ``true`` or ``false``; raises as ``integers`` does."""
    if text not in ("true", "false"):
        raise ValueError(message(f"{flag} takes true or false", text))
    return text == "true"


def integer_or_zero(flag: str, text: str) -> int:
    """Read one positive integer, or ``none`` as 0; raises as ``integers`` does."""
    return 0 if text == "none" else integer(flag, text)


def integer_or_none(flag: str, text: str) -> int | None:
    """Read one positive integer, or ``none`` as None; raises as ``integers`` does."""
    return None if text == "none" else integer(flag, text)


def name(_flag: str, text: str) -> str:
    """Read a name."""
    return text


def names(_flag: str, text: str) -> tuple[str, ...]:
    """Read names separated by commas, each once."""
    return tuple(dict.fromkeys(entry.strip() for entry in text.split(",")))


def fields_or_off(_flag: str, text: str) -> dict[str, Any] | None:
    """Read fields as ``pe=none``, or ``off`` as None; raises as ``fields_of`` does."""
    return None if text == "off" else fields_of(text)


class Option(NamedTuple):
    """One option of a session.

    Args:
        says: its line in the help.
        read: reads the text that is given with this option.
        field: field of a case that it sets; None if it sets one of the run's choices, which has the option's name.
        alias: another flag.
    """

    says: str
    read: Callable[[str, str], Any]
    field: str | None = None
    alias: str | None = None


OPTIONS = {  # by name, with underscores for the dashes of the flag
    "preset": Option(
        "axes and widths: auto (laptop without an accelerator, gpu with one), smoke, laptop, gpu, switches, seed", name
    ),
    "seq_lens": Option("sequence lengths T, as 64,128", integers),
    "depths": Option("numbers of layers L, as 2,8,32", integers, alias="--self-attn-layers"),
    "pe": Option("positional encodings, as rotary,alibi, or all", names),
    "batch_size": Option("sequences a step, B", integer, "batch_size"),
    "tokens_per_batch": Option("tokens a step instead of --batch-size: B = max(1, tokens // T)", integer),
    "d_model": Option("model width D", integer, "d_model"),
    "heads": Option("attention heads H", integer, "n_heads"),
    "head_dim": Option("width of a head K, by default D / H", integer, "head_dim"),
    "block": Option(
        "how a layer is wrapped: plain, residual, post_ln, pre_ln, peri_ln, rezero, deepnorm, lns", name, "block"
    ),
    "stack": Option("all switches of a family of models, beside the stack vanilla: vanilla, gpt2, llama, gemma", name),
    "ffn_mult": Option("width of the feed-forward in multiples of D, or none", integer_or_zero, "ffn_mult"),
    "activation": Option("activation of the feed-forward: relu, gelu, swiglu, geglu", name, "activation"),
    "norm": Option("norm of blocks that have one: layer, rms", name, "norm"),
    "causal": Option("true: no query sees later keys; false", truth, "causal"),
    "window": Option("keys that a query sees on each side, its own included; none: all", integer_or_none, "window"),
    "kv_heads": Option(
        "heads of keys and values, shared by the heads of queries; none: as many", integer_or_none, "kv_heads"
    ),
    "qk_norm": Option("true: queries and keys are normalised, head by head; false", truth, "qk_norm"),
    "softmax": Option("usual, or plus_one: a head may attend to nothing", name, "softmax"),
    "gate": Option("none, or sigmoid: a gate after attention", name, "gate"),
    "value_residual": Option(
        "true: values are the mean of a layer's and the first layer's; false", truth, "value_residual"
    ),
    "depth_scale": Option("how branches shrink in deep stacks: none, gpt2, depth_mup", name, "depth_scale"),
    "init": Option("initialisation: torch_mha, linear, unit", name, "init"),
    "attention": Option("attention backend: sdpa, math, flex", name, "attention"),
    "model": Option("stack, or package.module:function, which makes a model from a StackConfig", name, "model"),
    "dtype": Option("number format: float32, float64, bfloat16, float16", name, "dtype"),
    "device": Option("device that is measured: auto, cpu, cuda, cuda:1, mps, ...", name),
    "threads": Option(
        "torch's intra-op threads; on a CPU one fewer than there are cores by default; all: every one", integer_or_all
    ),
    "heap": Option(
        "kept (default on a CPU): the process keeps freed memory; system: the C library may give it back", name, "heap"
    ),
    "num_texts": Option("texts in an epoch of the seed preset", integer),
    "data": Option(
        "what bench/test_learning.py learns: digits, stress, FILE.csv with columns text and label; and "
        "bench/test_lengths.py: unique_copy, sort, bin_majority, parity, repeat_copy, stress, FILE.csv",
        names,
    ),
    "train_length": Option(
        "letters or symbols of the longest sequences that bench/test_lengths.py trains on; longer ones are its test",
        integer,
    ),
    "budget": Option(
        "seconds of warm-up and rounds of a case, over all visits; more if steps are slow: a visit has 4 rounds a side",
        number,
    ),
    "visits": Option("how often a case is measured beside its reference, at random moments of the run (3)", integer),
    "precision": Option(
        "half-width that the 95 %% interval of a case's ratio over its reference should have, as 0.02", number
    ),
    "reference": Option(
        "the case beside which each case is timed, by its fields, as pe=none or attention=math; off: none",
        fields_or_off,
    ),
    "denormals": Option("flush subnormal numbers to zero (default) or keep them", name, "denormals"),
    "cache": Option("hot, or cold: the device's largest cache is rewritten before every step", name, "cache"),
    "launch": Option("eager, or graph: each step is captured as a CUDA graph and replayed", name, "launch"),
    "matmul_precision": Option(
        "precision of float32 products: highest, high, medium, as torch.set_float32_matmul_precision",
        name,
        "matmul_precision",
    ),
    "order_seed": Option("seed of the random order of cases", integer),
    "case_timeout": Option("seconds a case may take in all, after which its status is timeout", number),
    "memory_limit": Option(
        "what a case may need, as 800MiB or 6.5GiB, instead of all that is free; none tries every case", byte_count
    ),
    "fixed_depth": Option(
        "depth at which forward and backward are measured over all lengths", integer, alias="--fixed-self-attn-layers"
    ),
    "fixed_seq_len": Option("length at which forward and backward are measured over all depths", integer),
}


def flag_of(option: str) -> str:
    """Return the flag of an option, as ``--seq-lens``."""
    return f"--{option.replace('_', '-')}"


def search(folder: Path) -> None:
    """Put a folder first on the import path of this process and of those that it starts.

    Raises:
        ValueError: there is no such folder.
    """
    if not os.path.isdir(folder):  # noqa: PTH112 - False of what cannot be looked at
        raise ValueError(message(f"--import-path {folder}: no such folder"))
    place = str(folder.resolve())
    sys.path.insert(0, place)
    os.environ["PYTHONPATH"] = os.pathsep.join([place, *filter(None, [os.environ.get("PYTHONPATH")])])
