"""Checks of one part of a stack (an encoding, a block, an attention, an initialisation) inside a small stack."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from attnlib.cases.case import Case, unsupported
from attnlib.cases.oracle import SCALES, check_oracle, compare
from attnlib.cases.subject import KINDS, Failed, NotApplicable, Output, Subject, apart, aside, small_stack
from attnlib.cases.workload import build
from attnlib.errors import message, shown
from attnlib.model.attention import ATTENTION, causal_mask
from attnlib.model.config import choose
from attnlib.model.positional.base import spread_over_pairs
from attnlib.model.registry import load

PLAIN = {"pe": "none", "block": "plain", "attention": "sdpa", "init": "torch_mha"}  # a part that is not looked at
PASSED, FAILED, NOT_APPLICABLE = "passed", "failed", "not applicable"
# Two results are the same up to this share of the largest number: an order of sums may differ, a token may not.
SAME = {"float64": 1e-12, "float32": 1e-5, "float16": 2e-3, "bfloat16": 8e-3}
# Finite differences in float64: a step, the share of the gradient by which they may differ, and the rounding inside.
# The long step is for parts that compute in float32 whatever they are given.
SHORT, LONG = (1e-6, 1e-5, 1e-14), (1e-3, 1e-2, 2e-7)
SMOOTH = 1e-7  # of the gradient's norm: by how much two short steps differ where all is float64
WEIGHTS = 2**16  # of a projection, at most, where a case is checked before it is measured
LENGTH, HEADS = 64, 8  # then, at most; LENGTH is also the width of a token


class Finding(NamedTuple):
    """The result of one check.

    Args:
        check: its name.
        result: ``passed``, ``failed`` or ``not applicable``.
        reason: one line in words, with the numbers.
    """

    check: str
    result: str
    reason: str


def check_made(subject: Subject) -> str:
    """Make a model with the part."""
    model, case = subject.made, subject.case
    count = sum(p.numel() for p in subject.parameters(model).values()) if subject.kind in ("pe", "block") else None
    sizes = f"seq_len={case.seq_len} d_model={case.d_model} n_heads={case.n_heads} head_dim={case.head_width}"
    return sizes if count is None else f"{sizes}: {count} parameters of its own"


def check_outputs(subject: Subject) -> str:
    """Compare type, shape, dtype and device of every output with what they must be."""
    found = subject.outputs()
    refuse_wrong(subject, found)
    found += (stack := subject.whole())
    refuse_wrong(subject, stack)
    if any(torch.equal(one.value, other.value) for one, other in zip(stack, subject.whole(), strict=True)):
        raise Failed(message("the stack gives the same output whatever tokens it gets"))
    return ", ".join(f"{name} {list(shape)}" for name, _, shape, _ in found)


def refuse_wrong(subject: Subject, found: Sequence[Output]) -> None:
    """Raise ``Failed`` for the first output that is not as it must be."""
    for name, value, shape, added in found:
        if not isinstance(value, Tensor):
            raise Failed(message(f"{name} must be a tensor", type(value)))
        if tuple(value.shape) != shape:
            raise Failed(message(f"{name} must have shape {list(shape)}", list(value.shape)))
        if value.dtype != subject.dtype and not (added and value.is_floating_point()):
            raise Failed(message(f"{name} must be {subject.dtype}", value.dtype))
        if value.device.type != torch.device(subject.case.device).type:
            raise Failed(message(f"{name} must be on device {subject.case.device!r}", str(value.device)))
    values = {output.name: output.value for output in found}
    if "bias" in values and "by_distance" in values:
        difference = apart(values["bias"], spread_over_pairs(values["by_distance"]))
        if not difference <= SAME[subject.case.dtype]:
            raise Failed(message(f"bias and by_distance differ by {difference:.2g} of the largest number"))


def check_finite(subject: Subject) -> str:
    """Look for NaN and infinities in every output; a bias may have -inf."""
    largest = 0.0
    for name, value, _, added in [*subject.outputs(), *subject.whole()]:
        fine = value.isfinite() | (value == -torch.inf) if added else value.isfinite()
        if bad := int((~fine).sum()):
            raise Failed(message(f"{name}: {bad} of {value.numel()} numbers are NaN or infinite"))
        largest = max(largest, float(value[value.isfinite()].abs().max()) if value.isfinite().any() else 0.0)
    return f"no number larger than {largest:.3g}"


def check_causality(subject: Subject) -> str:
    """Change all tokens after a position, and check that the outputs up to it stay the same."""
    case, T = subject.case, subject.case.seq_len
    if not case.causal:
        raise NotApplicable("the stack is not causal")
    cuts = sorted({0, T // 2 - 1, T - 2} & set(range(T - 1)))  # the last token that stays, one a row
    if not cuts:
        raise NotApplicable("one token has none after it")
    tokens = subject.tokens(len(cuts), T)
    later = torch.arange(T, device=tokens.device) > torch.tensor(cuts, device=tokens.device)[:, None]
    changed = torch.where(
        later, (tokens + 1 + torch.randint_like(tokens, case.vocab_size - 1)) % case.vocab_size, tokens
    )
    before, after = (subject.features(subject.stirred, given).double() for given in (tokens, changed))
    moved = (before - after).abs().amax(-1).masked_fill(later, 0) / before.abs().max()  # [rows, T]
    worst = float(moved.max())
    if not worst <= SAME[case.dtype]:
        row, token = divmod(int(moved.argmax()), T)
        seen = f"changes output {token} by {worst:.2g} of the largest"
        raise Failed(message(f"it sees the future: changing the tokens after token {cuts[row]} {seen}"))
    return f"changing the tokens after token {', '.join(map(str, cuts))} changes no output up to there"


def check_same_twice(subject: Subject) -> str:
    """Check that repeated calls give the same output, also around a call with fewer tokens.

    For an initialisation, check that the same seed gives the same weights.
    """
    if subject.kind == "init":
        return drawn_again(subject)
    case, model = subject.case, subject.stirred
    whole = subject.tokens(case.batch_size, case.seq_len)
    part = whole[:, : max(1, case.seq_len // 2)]
    first = subject.features(model, whole)
    again = {"called again": apart(first, subject.features(model, whole))}
    shorter = subject.features(model, part)
    title = f"after a call with {part.shape[1]} tokens"
    again[title] = apart(first, subject.features(model, whole))
    title = f"with {part.shape[1]} tokens, where a new instance is called with them first"
    again[title] = apart(shorter, subject.features(subject.moved(), part))
    for when, difference in again.items():
        if not difference <= SAME[case.dtype]:
            wrong = f"{when}, it differs by {difference:.2g} of the largest output{drawing(subject)}"
            raise Failed(message(wrong))
    return f"the same when called again, and with {part.shape[1]} tokens before or after"


def drawing(subject: Subject) -> str:
    """Return in words why two calls differ: random numbers, if outputs from the same seed agree, or else state."""
    tokens = subject.tokens(subject.case.batch_size, subject.case.seq_len)
    both = []
    for _ in range(2):
        torch.manual_seed(2)
        both.append(subject.features(subject.stirred, tokens))
    return ": it draws random numbers" if apart(*both) <= SAME[subject.case.dtype] else ": it keeps state between calls"


def drawn_again(subject: Subject) -> str:
    """Draw weights twice from one seed and compare them."""
    both = []
    for _ in range(2):
        torch.manual_seed(2)
        both.append(subject.of_init())
    for one, two in zip(*both, strict=True):
        if not torch.equal(one.value, two.value):
            difference = apart(one.value, two.value)
            raise Failed(message(f"{one.name} differs by {difference:.2g} when drawn again from the same seed"))
    return "the same weights from the same seed"


def check_bias(subject: Subject) -> str:
    """Check that a bias, for all sequences or for each, changes an attention's output, and that -inf hides a key."""
    if subject.case.attention == "flex":
        raise NotApplicable("it takes a bias of distances")
    case = subject.case
    attend: Callable[..., Tensor] = ATTENTION[subject.name]
    B, H, T = case.batch_size, case.n_heads, case.seq_len
    q, k, v = subject.heads()
    mask = causal_mask(T, q.device) if case.causal else torch.zeros(T, T, dtype=torch.bool, device=q.device)
    for shape in ((1, H, T, T), (B, H, T, T)):
        bias = subject.normal(*shape).masked_fill(mask, -torch.inf)
        bias[..., 1:, 0] = -torch.inf  # nobody but the first query sees the first key
        others = [torch.cat([x[..., :1, :] + 1, x[..., 1:, :]], -2) for x in (k, v)]
        with torch.no_grad():
            try:
                with subject.blamed():
                    plain, biased = attend(q, k, v, None, case.causal), attend(q, k, v, bias, case.causal)
            except Failed as error:
                raise NotApplicable(
                    f"it refuses a bias {list(shape)}, and with it encodings that add to the scores: {error}"
                ) from error
            with subject.blamed():
                hidden = attend(q, *others, bias, case.causal)
        if torch.equal(plain, biased):
            wrong = f"it ignores a bias {list(shape)}, so that encodings that add to the scores would do nothing"
            raise Failed(message(wrong))
        if not (difference := apart(biased[..., 1:, :], hidden[..., 1:, :])) <= SAME[case.dtype]:
            wrong = f"a key that the bias hides by -inf changes the output by {difference:.2g} of the largest"
            raise Failed(message(wrong))
    return "a bias for each pair, or for each sequence and pair, acts; -inf hides a key"


def check_bias_in_use(subject: Subject) -> str:
    """Run ``check_bias`` if the encoding or a window gives the attention a bias."""
    if not (subject.made.stack.encoding.biases or subject.case.masked_by_bias):
        raise NotApplicable("the encoding adds nothing to the scores")
    return check_bias(subject)


def check_gradients(subject: Subject) -> str:
    """Compare gradients with finite differences in float64, each along a random direction."""
    case = replace(subject.case, dtype="float64", phase="train_step")
    if why := unsupported(case):
        raise NotApplicable(why)
    exact = Subject(subject.kind, subject.name, case)
    x = exact.normal(case.batch_size, case.seq_len, case.d_model).requires_grad_()
    model = exact.stirred

    def function() -> Tensor:
        with exact.blamed():
            return model.stack(model.stack.encoding.embed(x))  # type: ignore[no-any-return]

    try:
        function()
    except Failed as error:
        raise NotApplicable(f"it does not run in float64: {error}") from error
    named = {"the input": x} | {name: p for name, p in exact.parameters(model).items() if p.requires_grad}
    worst = 0.0
    for name, tensor in named.items():
        worst = max(worst, disagreement(exact, function, name, tensor))
    return f"of the input and {len(named) - 1} parameters: at most {worst:.1g} of a gradient's norm apart"


def disagreement(subject: Subject, function: Callable[[], Tensor], name: str, tensor: Tensor) -> float:
    """Return by how much a gradient and a finite difference along one direction differ, over the gradient's norm.

    Raises:
        Failed: they differ by more than allowed, **or** the output has no gradient.
    """
    y = function()
    if not y.requires_grad:
        raise Failed(message("no gradient comes back through it"))
    weight, along = torch.randn_like(y), torch.randn_like(tensor)
    with subject.blamed():
        (gradient,) = torch.autograd.grad(y, tensor, weight, allow_unused=True)
    gradient = torch.zeros_like(tensor) if gradient is None else gradient
    size, slope = float(gradient.norm()), float((gradient * along).sum())

    def difference(step: float) -> float:
        both = []
        with torch.no_grad():
            for signed in (step, -2 * step):
                tensor.add_(along, alpha=signed)
                both.append((function() * weight).sum())
            tensor.add_(along, alpha=step)  # where it was
        return float(both[0] - both[1]) / (2 * step)

    def allowed(share: float, rounding: float, step: float, found: float) -> float:
        return share * max(size, abs(found)) + rounding * float(y.detach().norm()) / step

    short, long = difference(SHORT[0]), difference(LONG[0])
    if abs(short - slope) <= allowed(SHORT[1], SHORT[2], SHORT[0], short):
        return abs(short - slope) / (size or 1.0)
    # two short steps that disagree show rounding inside, and only then the long one decides
    smooth = abs(short - difference(2 * SHORT[0])) <= allowed(SMOOTH, SHORT[2], SHORT[0], short)
    if smooth or not abs(long - slope) <= allowed(LONG[1], LONG[2], LONG[0], long):
        found = short if smooth else long
        told = f"{slope:.4g}" if size else "nothing"
        wrong = f"of {name}, along a random direction: {told} by autograd, {found:.4g} by finite differences"
        raise Failed(message(wrong))
    return abs(long - slope) / (size or 1.0)


def check_state(subject: Subject) -> str:
    """Check that another instance with the state_dict gives the same output, and that ``.to`` reaches every tensor."""
    case, model = subject.case, subject.stirred
    for holder in subject.holders(subject.made):
        if name := loose_tensor(holder):
            advice = "register it as a buffer" if isinstance(holder, nn.Module) else "make the class a torch.nn.Module"
            wrong = f"{type(holder).__name__}.{name} is neither parameter nor buffer, so that .to() misses it"
            raise Failed(message(wrong, do=advice))
    tokens = subject.tokens(case.batch_size, case.seq_len)
    other = subject.fresh(seed=1)
    with subject.blamed():
        other.load_state_dict(model.state_dict())
    difference = apart(subject.features(model, tokens), subject.features(other, tokens))
    if not difference <= SAME[case.dtype]:
        wrong = f"another instance with its state_dict differs by {difference:.2g} of the largest output"
        raise Failed(message(wrong))
    return "another instance with its state_dict gives the same output"


def loose_tensor(holder: Any) -> str | None:
    """Return the name of an attribute with a tensor that ``.to`` does not reach, or None."""
    if isinstance(holder, nn.Module):
        values: Mapping[str, Any] = {k: v for k, v in vars(holder).items() if k not in ("_parameters", "_buffers")}
    else:
        values = getattr(holder, "__dict__", {})
    for name, value in values.items():
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else [value]
        if any(isinstance(one, Tensor) for one in inner):
            return name
    return None


def check_meta(subject: Subject) -> str:
    """Run a train step on tensors without storage, as predictions do."""
    case = replace(subject.case, device="meta", phase="train_step")
    if why := unsupported(replace(case, device=subject.case.device)):
        raise NotApplicable(why)
    try:
        with torch.device("meta"), subject.blamed():
            build(case).train_step()
    except Failed as error:
        raise NotApplicable(f"not predicted: {error}") from error
    return "a train step runs on meta tensors"


Check = Callable[[Subject], str]
FIRST: dict[str, Check] = {  # those that come after need these
    "made": check_made,
    "outputs": check_outputs,
    "finite": check_finite,
    "same twice": check_same_twice,
}
ESSENTIAL: dict[str, Check] = FIRST | {"causality": check_causality}
FURTHER: dict[str, Check] = {"gradients": check_gradients, "state": check_state, "meta": check_meta}
NOT_OF_WEIGHTS = ("causality", "gradients", "state")


def checks_of(kind: str) -> dict[str, Check]:
    """Return the checks of a kind of part, by name, in order."""
    if kind == "init":
        return {name: check for name, check in (ESSENTIAL | FURTHER).items() if name not in NOT_OF_WEIGHTS}
    return ESSENTIAL | ({"bias": check_bias} if kind == "attention" else {}) | FURTHER


def found_by(name: str, check: Check, subject: Subject) -> Finding:
    """Run one check and return its result; an error of the part is a failure, one of the check itself is raised."""
    torch.manual_seed(3)
    try:
        return Finding(name, PASSED, check(subject))
    except Failed as error:
        return Finding(name, FAILED, str(error))
    except NotApplicable as error:
        return Finding(name, NOT_APPLICABLE, str(error))


def findings(subject: Subject, checks: Mapping[str, Check]) -> Iterator[Finding]:
    """Run checks in order and yield the findings; after a failure of one of ``FIRST`` the others are not applicable."""
    broken = None
    for name, check in checks.items():
        if broken is not None:
            yield Finding(name, NOT_APPLICABLE, f"not looked at, since {broken!r} failed")
            continue
        found = found_by(name, check, subject)
        broken = name if found.result == FAILED and name in FIRST else None
        yield found


def check_part(
    kind: str,
    name: str,
    *,
    dtype: str = "float32",
    device: str = "cpu",
    causal: bool = False,
    oracle: str | None = None,
    **sizes: Any,
) -> list[Finding]:
    """Check a part inside a small stack; it may be built in, installed, or named as ``package.module:Attribute``.

    Args:
        kind: kind of part: ``pe``, ``block``, ``attention`` or ``init``.
        name: the part's name in its registry.
        dtype: dtype of parameters and activations.
        device: device to run on.
        causal: mask the stack, and check that nothing sees a later token.
        oracle: name or place of a part of the same kind that gives the right outputs, see ``attnlib.cases.oracle``.
        sizes: other fields of the stack, as ``seq_len`` (32), ``d_model`` (32), ``n_heads`` (2), ``head_dim``, ``pe``.

    Returns:
        a finding for each check; whatever the part raises is one of them.

    Raises:
        ValueError: an unknown kind, field or oracle, **or** an initialisation is to be compared with an oracle.
    """
    choose("kind", kind, KINDS)
    if oracle is not None:
        check_oracle(kind, oracle)
    subject = Subject(kind, name, small_stack(kind, name, dtype=dtype, device=device, causal=causal, **sizes))
    checks = checks_of(kind)
    if oracle is not None:
        checks |= {title: partial(compare, oracle, scale) for title, scale in SCALES.items()}
    with aside(device) as printed:
        found = list(findings(subject, checks))
    if text := printed.getvalue().strip():
        found.append(Finding("silent", FAILED, f"it prints while it runs: {text.splitlines()[0]}"))
    return found


def kind_of(name: str) -> str:
    """Return the kind of the part with this name or place.

    Raises:
        ValueError: the part cannot be imported, **or** fits no kind, **or** several.
    """
    kinds = [kind for kind, registry in KINDS.items() if name in registry]
    if not kinds:
        advice = "choose a name that attnlib list shows, or a place such as package.module:Attribute"
        raise ValueError(message(f"unknown part {shown(name)}", do=advice))
    if ":" in name:
        made = load(name, f"part {name!r}")
        kinds = ["pe", "block"] if isinstance(made, type) else ["pe", "attention", "init"]
    refused = {}
    for kind in kinds:
        try:
            KINDS[kind][name]
        except ValueError as error:
            refused[kind] = str(error).removeprefix(f"{kind} {name!r}").lstrip(": ")
    fitting = [kind for kind in kinds if kind not in refused]
    if len(fitting) > 1:
        raise ValueError(message(f"{name!r} may be {' or '.join(fitting)}", do="say which with --kind"))
    if not fitting:
        reasons = "; ".join(f"as {kind}: {why}" for kind, why in refused.items())
        raise ValueError(message(f"{name!r} fits no kind: {reasons}"))
    return fitting[0]


def problem_of(case: Case) -> str | None:
    """Return the reason of the first essential check that fails for the case's parts that are not attnlib's; else None.

    Each such part is checked in a small stack of the case's head width, dtype and device, then all of them together.
    The result is kept for all cases with the same small stack, see ``reduced``.
    """
    if all(registry.owns(getattr(case, kind)) for kind, registry in KINDS.items()):
        return None
    return problem_of_small(reduced(case))


def reduced(case: Case) -> Case:
    """Return the small case that is checked in place of this one; it keeps the head width, as kernels depend on it."""
    wide = case.d_model * case.inner > WEIGHTS
    heads = max(n for n in range(1, HEADS + 1) if case.n_heads % n == 0)
    length = min(case.seq_len, LENGTH)
    return Case(
        seq_len=length,
        window=None if case.window is None else min(case.window, max(1, length // 2)),
        d_model=min(case.d_model, LENGTH) if wide else case.d_model,
        n_heads=heads if wide else case.n_heads,
        head_dim=case.head_width,
        depth=max(1, min(case.depth, 2)),
        ffn_mult=min(case.ffn_mult, 1),
        batch_size=3,
        phase="forward",
        attention="sdpa" if case.attention == "flex" else case.attention,  # which compiles for seconds
        **{name: getattr(case, name) for name in ("pe", "block", "init", "causal", "dtype", "device")},
    )


def without(case: Case, kinds: Sequence[str], kept: str) -> Case:
    """Return the case with the parts of these kinds, except ``kept``, replaced by those of ``PLAIN``."""
    fields: dict[str, Any] = {kind: PLAIN[kind] for kind in kinds if kind != kept}
    return replace(case, **fields)


@lru_cache(maxsize=256)
def problem_of_small(case: Case) -> str | None:
    """Check the parts of a small case that are not attnlib's, each alone, then together; return the first failure."""
    own = [kind for kind, registry in KINDS.items() if not registry.owns(getattr(case, kind))]
    alone = [Subject(kind, getattr(case, kind), without(case, own, kind)) for kind in own]
    first = "attention" if "attention" in own else own[0]
    together = Subject(first, getattr(case, first), case)
    together.title = " with ".join(f"{kind} {getattr(case, kind)!r}" for kind in own)
    with aside(case.device):
        for subject in [*alone, *([together] if len(own) > 1 else [])]:
            checks = {name: check for name, check in checks_of(subject.kind).items() if name in ESSENTIAL}
            checks |= {"bias": check_bias_in_use} if subject.kind == "attention" else {}
            for found in findings(subject, checks):
                if found.result == FAILED:
                    return f"{subject.title}: {found.reason}"
    return None
