"""One run's choices: a preset with the command line laid over it, read before anything is measured."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from attnlib.measure.device import open_device
from attnlib.measure.limits import HAVE_ALARM
from attnlib.model.config import choose
from attnlib.model.positional import POSITIONAL
from bench.cases import NAMES, Case


@dataclass(frozen=True)
class Preset:
    """Axes and widths that belong together; any option overrides its part."""

    seq_lens: tuple[int, ...]
    depths: tuple[int, ...]
    budget: float  # seconds of warm-up, pilot and rounds a case
    pe: str
    case: Mapping[str, Any]


ONCE = ",".join(name for name in POSITIONAL if name != "rotary_interleaved")  # each encoding in one convention

PRESETS = {
    "smoke": Preset((16, 32), (1, 2), 0.05, "none,learned,rotary,t5", {"d_model": 32, "n_heads": 4, "batch_size": 2}),
    "laptop": Preset((64, 128, 256, 512, 1024), (2, 8, 32), 0.3, ONCE, {"d_model": 64, "n_heads": 4, "batch_size": 2}),
    "gpu": Preset(
        (512, 1024, 2048, 4096, 8192, 16384),
        (2, 8, 32),
        2.0,
        ONCE,
        {"d_model": 512, "n_heads": 8, "batch_size": 1, "dtype": "bfloat16"},
    ),
    "seed": Preset(
        (64, 128, 256, 512),
        (2, 4, 8, 16, 32, 64),
        2.0,
        "sinusoidal,learned",
        {
            "d_model": 512,
            "n_heads": 8,
            "head_dim": 512,
            "batch_size": 32,
            "dropout": 0.1,
            "pooling": "last",
            "n_classes": 1,
            "init": "linear",
            "embedding_scale": 2.0,
        },
    ),
}


def positive_integers(option: str, text: str) -> tuple[int, ...]:
    """Read ``64,128`` as integers in the order given, each once.

    Raises:
        ValueError: an entry is not a positive integer; the message names the option and the value.
    """
    entries = text.replace(",", " ").split()
    if not entries or any(not e.isascii() or not e.isdigit() or int(e) < 1 for e in entries):
        raise ValueError(f"{option} takes positive integers separated by commas, not {text!r}")
    return tuple(dict.fromkeys(int(e) for e in entries))


UNITS = {None: 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
SIZES = {"batch_size": "batch_size", "d_model": "d_model", "heads": "n_heads", "head_dim": "head_dim"}


def case_fields(given: Mapping[str, str]) -> dict[str, Any]:
    """The fields of a Case that the command line sets directly.

    Raises:
        ValueError: a size is not a positive integer, **or** a name is not in its registry.
    """
    sizes = {field: _one(option, given[option]) for option, field in SIZES.items() if option in given}
    return sizes | {name: _named(name, given[name], registry) for name, registry in NAMES.items() if name in given}


@dataclass(frozen=True)
class Settings:
    """One run's choices: a preset with the command line laid over it.

    ``fixed_depth`` and ``fixed_seq_len`` are where the two slices cross; both default to the middle of their axis.
    """

    preset: str
    base: Case
    seq_lens: tuple[int, ...]
    depths: tuple[int, ...]
    pes: tuple[str, ...]
    budget: float
    precision: float
    order_seed: int
    num_texts: int
    tokens_per_batch: int | None
    threads: int | None
    fixed_depth: int
    fixed_seq_len: int
    case_timeout: float | None = None  # seconds
    memory_limit: int | None = None  # bytes; 0 for no prediction

    def case(self, **fields: Any) -> Case:
        """A case of this run: the base with ``fields`` changed."""
        case = replace(self.base, **fields)
        if self.tokens_per_batch is not None and "batch_size" not in fields:
            case = replace(case, batch_size=max(1, self.tokens_per_batch // case.seq_len))
        return case

    @classmethod
    def from_options(cls, options: Mapping[str, str | None]) -> "Settings":
        """Lay the command line over a preset.

        Args:
            options: option names without dashes in front, dashes as underscores; None where not given.

        Raises:
            ValueError: a value is wrong; the message names it and the choices.
        """
        given = {name: value for name, value in options.items() if value is not None}
        device = open_device(given.get("device", "auto"))
        name = given.get("preset", "auto")
        choose("preset", name, dict.fromkeys(("auto", *PRESETS)))
        name = {"auto": "laptop" if device.kind == "cpu" else "gpu"}.get(name, name)
        preset = PRESETS[name]
        seq_lens = positive_integers("--seq-lens", given["seq_lens"]) if "seq_lens" in given else preset.seq_lens
        depths = positive_integers("--depths", given["depths"]) if "depths" in given else preset.depths
        return cls(
            preset=name,
            base=Case(**(dict(preset.case) | {"device": str(device.torch_device)} | case_fields(given))),
            seq_lens=seq_lens,
            depths=depths,
            pes=_encodings(given.get("pe", preset.pe)),
            budget=_number("--budget", given.get("budget", str(preset.budget))),
            precision=_number("--precision", given.get("precision", "0.03")),
            order_seed=_one("order_seed", given.get("order_seed", "1")),
            num_texts=_one("num_texts", given.get("num_texts", "1000")),
            tokens_per_batch=_fixed("tokens_per_batch", given, None),
            threads=_threads(given.get("threads")),
            fixed_depth=_fixed("fixed_depth", given, 8 if name == "seed" else middle(depths)),
            fixed_seq_len=_fixed("fixed_seq_len", given, 64 if name == "seed" else middle(seq_lens)),
            case_timeout=_timeout(given.get("case_timeout")),
            memory_limit=_bytes("--memory-limit", given["memory_limit"]) if "memory_limit" in given else None,
        )


def _one(option: str, text: str) -> int:
    numbers = positive_integers(f"--{option.replace('_', '-')}", text)
    if len(numbers) != 1:
        raise ValueError(f"--{option.replace('_', '-')} takes one positive integer, not {text!r}")
    return numbers[0]


def middle(axis: tuple[int, ...]) -> int:
    """The middle value of an axis, the upper one of two."""
    return sorted(axis)[len(axis) // 2]


Default = TypeVar("Default", int, None)


def _fixed(option: str, given: Mapping[str, str], default: Default) -> int | Default:
    return _one(option, given[option]) if option in given else default


def _threads(text: str | None) -> int | None:
    cpus = os.cpu_count() or 1
    if text is not None and _one("threads", text) > cpus:
        raise ValueError(f"--threads {text} exceeds this machine's {cpus} CPUs")
    return None if text is None else _one("threads", text)


def _number(option: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise ValueError(f"{option} takes a positive number, not {text!r}")
    return number


def _timeout(text: str | None) -> float | None:
    if text is not None and not HAVE_ALARM:
        raise ValueError("--case-timeout needs an alarm clock, which this system has none of")
    return None if text is None else _number("--case-timeout", text)


def _bytes(option: str, text: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?(B|KiB|MiB|GiB|TiB)?", text)
    if text != "none" and (found is None or not float(found[1])):
        raise ValueError(f"{option} takes bytes such as 800MiB or 6.5GiB, or none, not {text!r}")
    return 0 if found is None else int(float(found[1]) * UNITS[found[2]])


def _named(kind: str, name: str, registry: Mapping[str, Any]) -> str:
    choose(kind, name, registry)
    return name


def _encodings(text: str) -> tuple[str, ...]:
    if text == "all":
        return tuple(POSITIONAL)
    return tuple(dict.fromkeys(_named("pe", name, POSITIONAL) for name in text.split(",")))
