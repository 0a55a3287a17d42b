"""The origin of each measured number of README, results/reference/README.md and docs; see ``test_numbers.py``.

A sentence has ``{}`` in place of each number. Each number has a *reader*: a function that takes what the commands print
(``Printed``) and returns the value that the number must have.
"""

import math
import re

import numpy as np

from attnlib.compare.cells import claims
from attnlib.compare.intervals import Estimate
from attnlib.compare.pairs import floor
from attnlib.compare.speed import by_kind, of_run
from attnlib.runs.share import visit_counts
from attnlib.show.ceilings import errors_of

RUNS, SWITCHED = "results/reference/*.json", "results/reference/switches/switches.json"
COSTS, CLAIMS, SCALING = f"attnlib costs {RUNS}", f"attnlib findings {RUNS}", f"attnlib scaling {RUNS}"
HOLDS, CEILINGS = f"attnlib trust holds {RUNS}", f"attnlib ceilings {RUNS}"
LEARNED, RACE = "attnlib findings results/reference/learning/*.json", "attnlib findings results/reference/race/*.json"
LONGER = "attnlib findings results/reference/lengths/*.json"
OLDER = "results/reference/epyc-zen3/*.json"
OLDER_HOLDS, OLDER_COSTS = f"attnlib trust holds {OLDER}", f"attnlib costs {OLDER}"
BOTH = f"attnlib machines {RUNS} {OLDER}"
SWITCHES, SWITCH_FLOOR = f"attnlib switch-costs {SWITCHED}", f"attnlib costs {SWITCHED}"
FRONTIER = (
    "attnlib frontier --memory 24GiB checkpoint=true,block=pre_ln,d_model=512,n_heads=8 --tokens-per-batch 16384"
    " --threads 2"
)
MIB = 2**20


def same(found):
    """Return a value as it is."""
    return found


def falls(found):
    """Return an estimate with its sign changed."""
    return Estimate(-found.value, -found.high, -found.low) if isinstance(found, tuple) else -found


def factor(decades):
    """Return the factor of a number of decades, without an interval."""
    return 10 ** (decades.value if isinstance(decades, tuple) else decades)


def percent(found):
    """Return a share in percent."""
    return Estimate(*(100 * number for number in found)) if isinstance(found, tuple) else 100 * found


def first(pair):
    """Return the first of two values that a cell shows."""
    return pair[0]


def cell(command, column, change=same, above="", **row):
    """Return a reader of one cell of the tables that a command prints, see ``Printed.cell``."""
    return lambda printed: change(printed.cell(command, column, row, above))


def over(pe, T, L, phase="train_step"):
    """Return a reader of a time over that without encoding."""
    return cell(COSTS, pe, above=f"{phase}: ", T=T, L=L)


def claim(stack, name="first_layer", change=same):
    """Return a reader of a fitted number of a stack."""
    return cell(CLAIMS, "fitted", change, stack=stack, claim=name)


def theory(stack, name="first_layer", change=same):
    """Return a reader of the theory beside it."""
    return cell(CLAIMS, "theory", change, stack=stack, claim=name)


def switch(name, T, L=6, column=None):
    """Return a reader of the time of a train step over that without a switch, or of another column."""
    return cell(SWITCHES, column or f"T={T}", above="train_step: ", switch=name, L=L)


def right(data, pe, span="21 to 40", change=same):
    """Return a reader of the share of right answers in a range of lengths."""
    return cell(LONGER, f"right, {span}", change, above=f"{data} 1 to ", encoding=pe)


def accuracy(data, pe):
    """Return a reader of the test accuracy of stacks of two layers, in percent."""
    return cell(LEARNED, "test accuracy", percent, data=data, L=2, encoding=pe)


def step(pe, data="unique_copy 1 to 20"):
    """Return a reader of the time of a training step over that without encoding."""
    return cell(LONGER, "step / none", **{"trained on": data, "encoding": pe})


def scaled(column, case="train_step L=2 none", change=same):
    """Return a reader of a fit of time against length or depth."""
    return cell(SCALING, column, change, case=case)


def printed_in(command, pattern):
    """Return a reader of the only number that a command prints in a line, as a pattern with one group finds it."""

    def read(printed):
        (found,) = re.findall(pattern, printed.text(command))
        return float(found)

    return read


def group(command, pattern, column):
    """Return a reader of a group's percentage in the table of ``attnlib trust holds``."""
    return printed_in(command, rf"(?m)^{pattern} +" + r"[\d.]+%? +" * column + r"([\d.]+)%?(?: |$)")


# ---- gradients and signals

PLAIN = "rate T=16 L=64 none D=64 K=16"
PROFILE = "profile T=16 L=40 none"
DECADES, POWER, LAST = "decades a layer", "power of depth", "last FFN's power of L"
ENTRY = "input gradient, decades a layer"


def fits(printed):
    """Return the claims about rates at which gradients vanish."""
    return [row for row in printed.rows(CLAIMS) if row["stack"].startswith("rate ")]


def unit(row):
    """Return True if a claim is of a stack of unit gain."""
    return row["stack"].endswith(" unit")


def farthest(printed):
    """Return the largest deviation from theory, in percent of the rate."""
    return max(100 * abs(row["fitted"].value / row["theory"] - 1) for row in fits(printed) if not unit(row))


def farthest_of_unit_gain(printed):
    """Return the largest deviation from theory, in decades a layer, of stacks whose rate is almost 0."""
    return max(abs(row["fitted"].value - row["theory"]) for row in fits(printed) if unit(row))


def with_theory(printed):
    """Return the number of claims with a theory."""
    return sum(row["theory"] is not None for row in printed.rows(CLAIMS))


def excluded(printed):
    """Return the number of claims that hold although their interval excludes theory."""
    rows = [row for row in printed.rows(CLAIMS) if row["theory"] is not None]
    return sum(not row["fitted"].low <= row["theory"] <= row["fitted"].high for row in rows)


def at_64_layers(printed):
    """Return the norm of the first layer's gradient in a plain stack of 64 layers, geometric mean over the seeds."""
    (group,) = printed.cells(RUNS).where(phase="rate", pe="none", init="torch_mha", d_model=64, head_dim=16)
    curves = group[0].probe.curves
    return 10 ** curves["first_layer"][curves["depth"].index(64)]


def alibis_factor(T):
    """Return a reader of theory's factor by which tokens approach each other with ALiBi at a length, by iteration.

    See ``closed_forms.position_contraction``, which takes all eigenvalues of a matrix of T² rows.
    """

    def read(printed):
        from attnlib.cases.case import Case  # of torch, which no other reader needs
        from attnlib.model.classifier import build_encoding

        scores = build_encoding(Case(pe="alibi", seq_len=T)).bias(T).double().numpy()
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        centre = np.eye(T) - 1 / T
        heads = (centre @ (weights / weights.sum(-1, keepdims=True)) @ centre).astype("float32")
        spread = centre.astype("float32")
        for _ in range(40):
            spread /= np.trace(spread)
            spread = sum(head @ spread @ head.T for head in heads) / len(heads)
        return math.sqrt(np.trace(spread))

    return read


GRADIENTS = {
    "the first layer's weights falls by {} decades with the initialisation of `torch.nn.MultiheadAttention` (MHA; {}),"
    " and by {} with that of four `torch.nn.Linear` ({}). With MHA's it is {} at 64 layers.": [
        *(claim(PLAIN, change=falls), theory(PLAIN, change=falls)),
        *(claim(f"{PLAIN} linear", change=falls), theory(f"{PLAIN} linear", change=falls)),
        at_64_layers,
    ],
    "with weights which keep a signal's size, it falls by {} ({}).": [
        *(claim(f"{PLAIN} unit", change=falls), theory(f"{PLAIN} unit", change=falls)),
    ],
    "In {} fits over encodings and widths, the largest deviation from theory is {} % of the rate, or with unit gain,"
    " where the rate is almost 0, {} decades.": [lambda printed: len(fits(printed)), farthest, farthest_of_unit_gain],
    "by {} decades a layer with MHA's initialisation ({}). The gradients of the weights of V and of the output"
    " projection do not: {} ({}).": [
        *(claim(PROFILE, "activation"), theory(PROFILE, "activation")),
        *(claim(PROFILE, "v"), theory(PROFILE, "v")),
    ],
    "the gradients of V and of the output projection fall by {} ({}).": [
        *(claim(f"{PROFILE} linear", "v"), theory(f"{PROFILE} linear", "v")),
    ],
    "Without encoding, a = {} ({}). With rotary a = {}, and with Shaw's encoding, for Q only, {} (1/2)": [
        *(claim(f"{PROFILE} unit", "q power"), theory(f"{PROFILE} unit", "q power")),
        *(claim(f"profile T=16 L=40 {pe} unit", "q power") for pe in ("rotary", "shaw")),
    ],
    "tokens' distance from their mean into its cube: exponent {} ({}).": [
        *(claim("collapse T=16 L=24 none unit", "exponent"), theory("collapse T=16 L=24 none unit", "exponent")),
    ],
    "At T = 16 it is {} a layer with ALiBi ({}), {} with T5 ({}) and {} with a mask (1/2).": [
        claim("collapse T=16 L=24 alibi unit", DECADES, factor),
        theory("collapse T=16 L=24 alibi unit", DECADES, factor),
        claim("collapse T=16 L=24 t5 unit", DECADES, factor),
        theory("collapse T=16 L=24 t5 unit", DECADES, factor),
        claim("collapse T=16 L=36 none unit causal", DECADES, factor),
    ],
    "Without encoding the factor is {} a layer with post-LN ({}) and {} with a skip and no norm ({}).": [
        claim("collapse T=16 L=24 none post_ln unit", DECADES, factor),
        theory("collapse T=16 L=24 none post_ln unit", DECADES, factor),
        claim("collapse T=16 L=64 none residual", DECADES, factor),
        theory("collapse T=16 L=64 none residual", DECADES, factor),
    ],
    "With pre-LN the distance goes as the power {} of depth (-1/2).": [
        claim("collapse T=16 L=24 none pre_ln unit", POWER),
    ],
    "the gradient grows by {} decades a layer toward the input": [claim("control T=16 L=64 none residual", ENTRY)],
    "The last feed-forward's gradient goes as the power {} of depth with pre-LN (-1/2), and {} with post-LN ({})."
    " Peri-LN's variance is {} after 128 sublayers ({}).": [
        claim("control T=16 L=64 none pre_ln unit", LAST),
        claim("control T=16 L=64 none post_ln unit", LAST),
        theory("control T=16 L=64 none post_ln unit", LAST),
        claim("control T=16 L=64 none peri_ln unit", "variance"),
        theory("control T=16 L=64 none peri_ln unit", "variance"),
    ],
    "DeepNorm's activation gradient at the input is {} of that at the output ({}).": [
        claim("control T=16 L=64 none deepnorm unit", "gradient in / out"),
        theory("control T=16 L=64 none deepnorm unit", "gradient in / out"),
    ],
    "With MHA's initialisation it is 0 after {} layers in float16, {} in bfloat16 and {} in float32 ({}, {}, {})."
    " With four Linears it is {}, {} and {} ({}, {}, {}).": [
        read(stack, name)
        for stack in ("flush T=16 L=128 none", "flush T=16 L=112 none linear")
        for read in (claim, theory)
        for name in ("float16", "bfloat16", "float32")
    ],
    "of the {} claims with a theory, {} hold although their interval excludes the theory's number.": [
        *(with_theory, excluded),
    ],
}

# ---- time and memory


def denormals(printed, field):
    """Return the cells of the backward pass of 64 layers with subnormal numbers kept or set to zero."""
    return printed.cells(RUNS).first(phase="backward", depth=64, denormals=field)


def subnormal(printed):
    """Return the percentage of parameter gradients that are subnormal in 64 layers."""
    counts = denormals(printed, "keep")[0].probe.counts
    return 100 * counts["parameters"].subnormal / counts["parameters"].numbers


def kept(printed):
    """Return the time of the backward pass with subnormal numbers over the time with zeros in their place."""
    return printed.cells(RUNS).ratio(denormals(printed, "keep"), denormals(printed, "flush"))


def peak(pe, T):
    """Return a reader of the peak memory of a train step of eight layers, in MiB."""
    case = {"pe": pe, "seq_len": T, "depth": 8, "phase": "train_step"}
    return lambda printed: printed.cells(RUNS).first(**case)[0].peak / MIB


def series(printed):
    """Return the verdict on each series of times against depth."""
    return [row["in L"] for row in printed.rows(SCALING) if "in L" in row]


def floors(printed):
    """Return the noise floor of each phase."""
    cells = printed.cells(RUNS)
    return [
        floor(cell for group in cells.where(phase=phase) for cell in group)
        for phase in ("forward", "backward", "train_step")
    ]


def typical_spread(logs):
    """Return the standard deviation of the logarithms of each case's times, median over the cases, in percent."""
    return 100 * float(np.median(np.std(logs, axis=1, ddof=1)))


def median_change(printed):
    """Return by how many percent a case's own median time changes from run to run."""
    groups = [group for group in printed.cells(RUNS).by_id.values() if group[0].ratio]
    return typical_spread([np.log([cell.median for cell in group]) for group in groups])


def time_change(printed):
    """Return by how many percent a case's time, its ratio times the reference's, changes from run to run."""
    cells = printed.cells(RUNS)
    ids = [case_id for case_id, group in cells.by_id.items() if group[0].ratio]
    return typical_spread([np.log([times[case_id].value for times in cells.times]) for case_id in ids])


def worst_prediction(printed):
    """Return 0.01 if all predicted peaks differ by less percent from the measured ones, or else the largest error."""
    cells = [cell for run in printed.cells(RUNS).runs for cell in run.cells]
    return max(0.01, 100 * max(map(abs, errors_of(cells))))


TIME = {
    "cost next to nothing: {} and {} in the shortest case (T = 64, L = 2), and {} and {} at T = 512, L = 8.": [
        over(pe, T, L) for T, L in ((64, 2), (512, 8)) for pe in ("sinusoidal", "learned")
    ],
    "With 2 layers it is {} at 64 tokens, {} at 256 and {} at 1024. A forward pass of 8 layers at 64 tokens takes {}"
    " times as long.": [*(over("rotary", T, 2) for T in (64, 256, 1024)), over("rotary", 64, 8, "forward")],
    "with 2 layers {} at 64 tokens and {} at 1024.": [over("alibi", T, 2) for T in (64, 1024)],
    "With 8 layers at 512 tokens a step takes {} (T5), {} (KERPLE), {} (FIRE) and {} (Shaw) times as long. With 2"
    " layers at 1024 tokens it takes {} (T5), {} (KERPLE), {} (FIRE) and {} (Shaw).": [
        over(pe, T, L) for T, L in ((512, 8), (1024, 2)) for pe in ("t5", "kerple", "fire", "shaw")
    ],
    "At 1024 tokens c T² is {} of it, and c T² exceeds b T from {} tokens on. (Of the floating-point operations, FLOPs,"
    " the part as T² is the larger one from {} on.) Measured from 512 to 1024 tokens alone, time grows as T^{}, and"
    " with written-out attention as T^{} (Shaw) to T^{} (FIRE)": [
        scaled("share of c T^2", change=lambda found: percent(found[0])),
        *(scaled("c T = b at"), scaled("FLOPs"), scaled("slope", change=first)),
        *(scaled("slope", f"train_step L=2 {pe}", first) for pe in ("shaw", "fire")),
    ],
    "there are {} series of times at three depths. In {} of them": [
        *(lambda printed: len(series(printed)), lambda printed: series(printed).count("linear")),
    ],
    "T5 at 128, it is {} %": [scaled("deviation", "train_step T=128 t5", percent)],
    "a layer costs {} at 128 tokens": [
        scaled("b / layer", "train_step T=128 none", lambda found: Estimate(*(1000 * seconds for seconds in found))),
    ],
    "At 64 layers with the initialisation of `torch.nn.Linear`, {} % of the parameter gradients are subnormal": [
        subnormal
    ],
    "The backward pass takes {} times as long with them": [kept],
    "Eight layers peak at {} MiB without encoding and {} MiB with T5 at 64 tokens, and at {} MiB and {} MiB at 512.": [
        peak(pe, T) for T in (64, 512) for pe in ("none", "t5")
    ],
    "Predicted and measured peaks differ by less than {} % in all cases": [worst_prediction],
    "contains the mean of the other four runs in {} % of {} comparisons (five runs of 189 cases). In the worst group,"
    " written-out attention at T = 128 to 1024, it is {} %.": [
        *(group(HOLDS, "all", 1), group(HOLDS, "all", 0)),
        group(HOLDS, "written out, T = 128, 256, 512, 1024", 1),
    ],
    "changes by {} % (one standard deviation). {} % of the cases change by at most 2 %, and {} % by at most 4 %. The"
    " worst is the backward pass with T5 at T = 128, L = 8, with {} %.": [
        group(HOLDS, "all", 4),
        *(printed_in(HOLDS, rf"([\d.]+)% within {limit}%") for limit in (2, 4)),
        printed_in(HOLDS, r"([\d.]+)%  backward T=128 L=8 t5"),
    ],
    "are {} % in the median, and nine in ten are at most {} %. Of the variance of visits, {} % comes from the run": [
        *(group(HOLDS, "all", column) for column in (2, 3)),
        printed_in(HOLDS, r"variance between visits, ([\d.]+)%"),
    ],
    "differs from 1 by {} % (forward), {} % (backward) and {} % (train step), root mean square (rms). {} of {}"
    " intervals within a run contain 1.": [
        *(lambda printed, n=n: 100 * floors(printed)[n].rms for n in range(3)),
        lambda printed: sum(one.held for one in floors(printed)),
        lambda printed: sum(one.cells for one in floors(printed)),
    ],
}

# ---- switches


def others(printed):
    """Return the times at T = 512 and 6 layers with one switch, but for those that README names."""
    named = ("rotary", "cope", "gate=sigmoid", "kv_heads=1", "kv_heads=2")
    rows = printed.rows(SWITCHES, "train_step: ")
    return [row["T=512"].value for row in rows if row["L"] == 6 and row["switch"] not in named]


def less_memory(printed):
    """Return by how many percent a train step needs less memory with shared heads, the same with one and with two."""
    found = {round(100 * (1 - switch(f"kv_heads={n}", 512, column="peak")(printed))) for n in (1, 2)}
    assert len(found) == 1, found
    return found.pop()


def switch_claim(label, name="first_layer", change=same, d_model=64):
    """Return a reader of a fitted number of a stack with a switch; the narrow one is shown."""

    def read(printed):
        found = found_claim(printed, label, name, d_model)
        return change(Estimate(found.mean, found.low, found.high))

    return read


def switch_theory(label, name="first_layer", change=same, d_model=64):
    """Return a reader of the theory beside it."""
    return lambda printed: change(found_claim(printed, label, name, d_model).theory)


def found_claim(printed, label, name, d_model):
    """Return a claim about a stack with a switch, which ``attnlib findings`` prints for both widths."""
    return claims(printed.cells(SWITCHED).first(phase="switch", pe=label, d_model=d_model))[name]


def farthest_of_idle(printed):
    """Return by how many percent, rounded up, the times of switches without a cost differ from those without them."""
    idle = ("value_residual", "block=lns", "depth_scale=", "rotary_")
    rows = [row for row in printed.rows(SWITCHES, "train_step: ") if row["switch"].startswith(idle)]
    return math.ceil(max(100 * abs(row["T=512"].value - 1) for row in rows))


def farthest_from_0(printed):
    """Return a limit, to four decimals, of the first layer's gradient with a value residual, in decades a layer."""
    found = [found_claim(printed, "value_residual", "first_layer", d_model) for d_model in (64, 128)]
    return math.ceil(1e4 * max(abs(limit) for claim in found for limit in (claim.low, claim.high))) / 1e4


def checks(printed):
    """Return the number of checks whose claims all hold."""
    cells = [group[0] for group in printed.cells(SWITCHED).where(phase="switch")]
    return sum(cell.status == "ok" and bool(cell.probe.claims) for cell in cells)


SWITCH_FINDINGS = {
    "At T = 512 and 6 layers, the step takes {} of the time with one shared head and {} with two, and in both"
    " cases {} % less memory.": [switch("kv_heads=1", 512), switch("kv_heads=2", 512), less_memory],
    "costs {} at T = 512 and {} at 128 (6 layers), more than": [switch("gate=sigmoid", T) for T in (512, 128)],
    "QK-norm costs {} at T = 512 and {} at 128, and a softmax with 1 more in its denominator {} and {}. SwiGLU with the"
    " same number of parameters costs {} at 512.": [
        *(switch(name, T) for name in ("qk_norm", "softmax=plus_one") for T in (512, 128)),
        switch("activation=swiglu", 512),
    ],
    "here: {} at T = 512 (not told apart from 1), {} at 128. At 512 a step with RMSNorm needs {} % more memory.": [
        *(switch("norm=rms", T) for T in (512, 128)),
        lambda printed: 100 * (switch("norm=rms", 512, column="peak")(printed) - 1),
    ],
    "costs {} at 128 tokens and {} at 512, where": [switch("cope", T) for T in (128, 512)],
    "differs from 1 by {} % (train step) and {} % (forward), rms": [
        printed_in(SWITCH_FLOOR, rf"noise floor of {phase}: .*: ([\d.]+)% rms") for phase in ("train_step", "forward")
    ],
    "changes by {} decades a layer ({}; without sharing {}). With a gate it changes by {} ({}). With a softmax plus"
    " one, gradients fall by {} decades a layer more than without ({}). With a value residual, the first layer's"
    " gradient changes by less than {} (0).": [
        *(switch_claim("kv_heads=1"), switch_theory("kv_heads=1"), claim(PLAIN)),
        *(switch_claim("gate=sigmoid"), switch_theory("gate=sigmoid")),
        switch_claim("softmax=plus_one", "first_layer, more than without", falls),
        switch_theory("softmax=plus_one", "first_layer, more than without", falls),
        farthest_from_0,
    ],
    "the gradients of Q and K go as the power {} of the input's size, instead of 2.": [
        switch_claim("qk_norm", "q's power of the input"),
    ],
    "squares the tokens' distance from their mean (exponent {}).": [switch_claim("cope", "exponent")],
    "With a window of 4 of 16 tokens, the distance falls by {} and {} decades a layer at the two widths ({}).": [
        *(switch_claim("window=4", DECADES, falls, d_model) for d_model in (64, 128)),
        switch_theory("window=4", DECADES, falls),
    ],
    "cost nothing that this run could detect: at T = 512 all lie within {} %.": [farthest_of_idle],
    "agree with the closed forms in all {} checks": [checks],
}

# ---- longer than trained on

COMMONEST = r"always the commonest label: .* ([\d.]+) at 9 to 14"
LENGTHS = {
    "(`unique_copy`, where all symbols differ) FIRE {}, KERPLE {}, a learned table with random offsets in training {},"
    " and ALiBi {}.": [right("unique_copy", pe) for pe in ("fire", "kerple", "learned_offset", "alibi")],
    "Rotary reaches {}, T5 {} and the sinusoidal table {}. The learned table without offsets has {}": [
        right("unique_copy", pe) for pe in ("rotary", "t5", "sinusoidal", "learned")
    ],
    "At 41 to 80 symbols the best is KERPLE, {}.": [right("unique_copy", "kerple", "41 to 80")],
    "KERPLE {}, no encoding {}, FIRE {}, T5 {} and ALiBi {}, which cannot be told apart.": [
        right("sort", pe) for pe in ("kerple", "none", "fire", "t5", "alibi")
    ],
    "the learned table with offsets ({}, although no seed fits), rotary {}, the sinusoidal table {} and"
    " the learned table {}.": [right("sort", pe) for pe in ("learned_offset", "rotary", "sinusoidal", "learned")],
    "when it copies ({} there, 0 of 5 seeds fit).": [right("unique_copy", "none", "1 to 20")],
    "generalises with every encoding: {} (learned) to {} (none, KERPLE).": [
        right("bin_majority", pe) for pe in ("learned", "none")
    ],
    "is right most often on those of 9 to 14, {}; rotary": [right("stress", "sinusoidal", "9 to 14")],
    "reach {} to {}. The commonest label alone would reach {}.": [
        *(right("stress", pe, "9 to 14") for pe in ("alibi", "t5")),
        printed_in(LONGER, COMMONEST),
    ],
    "parity of bits {} to {}, where": [right("parity", pe) for pe in ("learned_offset", "none")],
    "but copies only {} of longer strings.": [right("repeat_copy", "rotary")],
    "With FIRE it is {}, KERPLE {}, rotary {}, and a learned table with offsets {} times that without encoding.": [
        step(pe) for pe in ("fire", "kerple", "rotary", "learned_offset")
    ],
}

# ---- README, and pages of docs


def shared(digits, *readers):
    """Return a reader of the value that several cells share at so many digits behind the point."""

    def read(printed):
        found = [reader(printed).value for reader in readers]
        assert len({f"{value:.{digits}f}" for value in found}) == 1, found
        return found[0]

    return read


README = {
    "multiplies the gradient of the first layer's weights by {}.": [claim(PLAIN, change=factor)],
    "a train step takes {} (T5, KERPLE), {} (Shaw) or {} (FIRE) times as long as without encoding. ALiBi takes {},"
    " rotary {}, learned and sinusoidal tables {} (costs).": [
        shared(1, over("t5", 1024, 2), over("kerple", 1024, 2)),
        *(over(pe, 1024, 2) for pe in ("shaw", "fire", "alibi", "rotary")),
        shared(2, over("learned", 1024, 2), over("sinusoidal", 1024, 2)),
    ],
    "the part that grows as T² is {} of a train step's time. From about {} tokens on": [
        scaled("share of c T^2", change=lambda found: percent(found[0])),
        scaled("c T = b at", change=lambda found: round(found.value, -1)),
    ],
    "in %: sinusoidal {}; not significantly below it: T5 {}, learned {}, Shaw {}; below it: rotary {}, ALiBi {},"
    " FIRE {}, none {}": [
        accuracy("digits", pe) for pe in ("sinusoidal", "t5", "learned", "shaw", "rotary", "alibi", "fire", "none")
    ],
    "they copy {}, {} and {} % and sort {}, {} and {} % of the strings of 21 to 40. Rotary copies {} % and sorts {} %,"
    " no encoding {} and {} %": [
        *(right(data, pe, change=percent) for data in ("unique_copy", "sort") for pe in ("fire", "kerple", "alibi")),
        *(right(data, pe, change=percent) for pe in ("rotary", "none") for data in ("unique_copy", "sort")),
    ],
    "takes {} to {} times as long (6 layers, T = 512). Exceptions: one shared head of keys and values {}, two {},"
    " a gate on the heads' output {}, CoPE {} (switches).": [
        *(lambda printed: min(others(printed)), lambda printed: max(others(printed))),
        *(switch(name, 512) for name in ("kv_heads=1", "kv_heads=2", "gate=sigmoid", "cope")),
    ],
}
README |= {"but learned terms cost more (FIRE {}).": [cell(OLDER_COSTS, "fire", above="train_step: ", T=1024, L=2)]}
CHANGES = [group(HOLDS, "all", 4), median_change]
WORST = "written out, T = 128, 256, 512, 1024"
COVERAGE = [group(HOLDS, "all", 1), group(HOLDS, "all", 0), group(HOLDS, WORST, 1)]


def canary_took(kind):
    """Return a reader of how many times as long a kind of the canary's work took on the older processor."""

    def read(printed):
        sides = (by_kind([of_run(run) for run in printed.cells(runs).runs]) for runs in (RUNS, OLDER))
        newer, older = (float(np.median(side[kind])) for side in sides)
        return older / newer

    return read


def visits_made(printed):
    """Return the numbers of undisturbed and of all visits on the older processor."""
    return [sum(column) for column in zip(*map(visit_counts, printed.cells(OLDER).runs), strict=True)]


def signs(words):
    """Return a reader of a number of ratios of train steps between encodings on both machines, by what follows it."""
    return printed_in(BOTH, rf"train_step: of .*?(\d+) {words}")


def worst_group(printed):
    """Return the smallest share of intervals that contain the others' mean, over the groups, in percent."""
    groups = ("backward", "train_step", "forward", "fused, T = 64", "fused, T = 128", "fused, T = 256, 512, 1024")
    groups += ("written out, T = 64", "written out, T = 128, 256, 512, 1024")
    return min(group(OLDER_HOLDS, name, 1)(printed) for name in groups)


ANOTHER = {
    "{} of {} visits were undisturbed.": [
        *(lambda printed, n=n: visits_made(printed)[n] for n in (0, 1)),
    ],
    "Of {} ratios of train steps, between two encodings each, {} have an interval above 1 on one machine and below 1 on"
    " the other. On both, {} lie above 1 and {} below": [
        *map(signs, ("ratios", "opposite", "longer", "shorter")),
    ],
    "How much does not: {} of these ratios are of different size": [signs("of different size")],
    "With 2 layers at 1024 tokens a step takes {} (T5), {} (KERPLE), {} (FIRE) and {} (Shaw) times as long as without"
    " encoding.": [
        *(cell(OLDER_COSTS, pe, above="train_step: ", T=1024, L=2) for pe in ("t5", "kerple", "fire", "shaw")),
    ],
    "memory traffic took {} times as long as on the newer one, small operators {} times and products {} times.": [
        *map(canary_took, ("traffic", "operators", "products")),
    ],
    "the mean of the other four runs in {} % of {} comparisons, and in the worst group, the backward passes, in {}"
    " %.": [
        *(group(OLDER_HOLDS, "all", 1), group(OLDER_HOLDS, "all", 0), worst_group),
    ],
    "so the half-widths are {} % in the median.": [group(OLDER_HOLDS, "all", 2)],
}


def share_of_ceiling(end):
    """Return a reader of the measured time of a step over that at the best rates of the machine, at one end."""
    return lambda printed: 100 / printed_in(CEILINGS, rf"share of ceiling, .* {end} (\d+)%")(printed)


def longest(command, L):
    """Return a reader of the longest sequence of a stack with so many layers."""
    return cell(command, "none", above="longest T", L=L)


def deepest(command, T):
    """Return a reader of the deepest stack at a length."""
    return cell(command, "none", above="deepest L", T=T)


def epoch(T):
    """Return a reader of an epoch's seconds in 2023: 1.4 and a part as T (8 D + 4 T), which is 40.3 at T = 512."""
    return lambda printed: 1.4 + 40.3 * T * (8 * 512 + 4 * T) / (512 * (8 * 512 + 4 * 512))


TABLE = f"{FRONTIER} --depths 64 --seq-lens 1024"
CHANGED = {
    "as above": TABLE,
    "without checkpointing": TABLE.replace("checkpoint=true", "checkpoint=false"),
    "`attention=math`": TABLE.replace("checkpoint=true", "checkpoint=true,attention=math"),
    "8 heads of 512": TABLE.replace("checkpoint=true", "checkpoint=true,head_dim=512"),
    "`dtype=bfloat16`": TABLE.replace("checkpoint=true", "checkpoint=true,dtype=bfloat16"),
}
ORIGINAL = (
    "attnlib frontier --memory 24000000000 d_model=512,n_heads=8,head_dim=512,batch_size=32,attention=math,dropout=0.1,"
    "pooling=last,n_classes=1,init=linear --depths 8 --seq-lens 64"
)
FINDINGS = {
    "README.md#What we found": README,
    "README.md#How to read a result": {
        "from run to run it changes by {} %, the time by {} % (a typical case's": [CHANGES[0], time_change],
    },
    "results/reference/README.md#Gradients and signals": GRADIENTS,
    "results/reference/README.md#Time and memory": TIME,
    "results/reference/README.md#Another machine": ANOTHER,
    "results/reference/README.md#What switches cost": SWITCH_FINDINGS,
    "results/reference/README.md#Longer than trained on": LENGTHS,
    "docs/cost.md#Peak memory": {
        "| the {} cases of the default job whose memory was measured | within {} % |": [
            lambda printed: printed_in(CEILINGS, r"peak, (\d+) cases")(printed) / 5,
            worst_prediction,
        ],
    },
    "docs/cost.md#Time": {"took {} to {} times that": [share_of_ceiling("to"), share_of_ceiling("from")]},
    "docs/method.md#How often they err": {
        "changes by {} % in a typical case (one standard deviation). Its ratio over the reference changes by {} %": [
            *CHANGES[::-1]
        ],
        "contains it in {} % of {} comparisons; in the worst group, written-out attention at T = 128 to 1024, in {}"
        " %; on an older EPYC, whose runs are in `results/reference/epyc-zen3`, in {} % of {}, and in"
        " the worst group, the backward passes, in {} %": [
            *(*COVERAGE, group(OLDER_HOLDS, "all", 1), group(OLDER_HOLDS, "all", 0), worst_group),
        ],
    },
    "docs/original.md#Its results": {
        "A fixed {} s an epoch, plus a time in proportion to these FLOPs, gives {}, {}, {} and {} s.": [
            *(lambda printed: 1.4, *map(epoch, (64, 128, 256, 512))),
        ],
    },
}
# those that take a quarter of a minute or more
SLOW_FINDINGS = {
    "results/reference/README.md#Gradients and signals": {
        "theory gives {}, {}, {}, {} at T = 16, 64, 256, 512.": [alibis_factor(T) for T in (16, 64, 256, 512)],
    },
    "docs/cost.md#How far you can go": {
        "| longest T | {} | {} | {} | {} | {} | {} |": [longest(FRONTIER, 2**n) for n in range(1, 7)],
        "the stack can have {} layers, at any T from 512 on": [deepest(FRONTIER, 512)],
        **{
            f"| {name} | {{}} | {{}} |": [deepest(command, 1024), longest(command, 64)]
            for name, command in CHANGED.items()
        },
    },
    "docs/original.md#Its results": {
        "24e9 bytes hold {} tokens at 8 layers, or {} layers at 64 tokens.": [
            *(longest(ORIGINAL, 8), deepest(ORIGINAL, 64)),
        ],
    },
}
# commands that print the other numbers of a section
PRINTED = {
    "README.md#What we found": [LEARNED],
    "results/reference/README.md#Time and memory": [HOLDS],
    "results/reference/README.md#What switches cost": [SWITCHES],
    "results/reference/README.md#What is learned": [LEARNED, RACE],
    "results/reference/README.md#Longer than trained on": [LONGER],
    "docs/theory.md#Three ways to the same number: `attnlib theory`": ["attnlib theory"],
}
SLOW = ("attnlib theory",)

# Constants of the method and settings, by section, in the words around them; `` ... `` stands for whatever is between.
SETTINGS = {
    "README.md#Three ways in": ["torch 2.6 to 2.13", "the threshold, 1.02, plus half"],
    "README.md#How to read a result": ["(`ab` 2 %, `compare` 5 %, on a GPU 2 %)"],
    "results/reference/README.md#Time and memory": ["straight line lies within 5 %", "reaches beyond 5 %"],
    "results/reference/README.md#Longer than trained on": ["where guessing has 0.5", "answers at least 99 % at"],
    "docs/cluster.md#One run of many parts": ["the middle 90 % of two"],
    "docs/cost.md#Peak memory": ["to 0.3 % or 2 KiB ... bfloat16 to 5 % or", "a reserve of a quarter instead of 2 %"],
    "docs/glossary.md#": ["over 1.2 times", "a level of 0.1 %"],
    "docs/gpu.md#The preset": ["80 % of its memory's rate", "over 1.2 times"],
    "docs/gpu.md#What a row says there": ["over 1.2 times"],
    "docs/learning.md#": ["0.001, 0.003 and 0.01; 0.03 was"],
    "docs/learning.md#The data": ["71 %, or the second", "60 %, 20 %, 20 %"],
    "docs/learning.md#The trainings": [
        *("weight decay 0.01", "below 0.02 nats", "less than 1 %", "reaches 95 % of the best"),
        *("at learning rate 0.003", "0.001, 0.01 and 0.03", "With 0.003 of", "learning rate 0.003 and", "level 0.1 %"),
    ],
    "docs/learning.md#The verdicts": ["beyond 0.01 (a percentage point)", "margin of 0.01"],
    "docs/lengths.md#The trainings": ["weight decay 0.01", "from 0.003 to 0"],
    "docs/lengths.md#What is said": [
        *("answers at least 99 % of", "learning rate 0.001", "differs by at most 0.02"),
        "The mean of its runs that fit is 0.9999 right at 51 to 100, and 0.9996 at 101 to 150",  # of arXiv 2410.02140
    ],
    "docs/method.md#": ["A ratio of 1.13 means that one thing takes 13 % longer"],
    "docs/method.md#A visit": ["at most 5 % below", "Steps of 0.1 s or more", "an interval of ± 2 %"],
    "docs/method.md#Ratio, interval and time": ["97.5 % quantile", "multiplied by 1.198"],
    "docs/method.md#The same conditions for every case": ["1e-38 in float32"],
    "docs/method.md#Disturbed visits": [
        "more than 1.25 times",
        "divided by 1.25",
        "more than 1.5 times",
        "divided by 1.5, a",
    ],
    "docs/method.md#The four verdicts": [
        *("takes over 1.5 s is", "false verdict is 5 %", "of these 5 %", "threshold is 2 %", "5 % on a CPU and 2 %"),
        *("beyond 3 % or", "A threshold of 1 %", "by less than about 1 %"),
    ],
    "docs/method.md#How often they err": ["standard deviations of 0.02 and 0.15 ... share 0.025 / 160 of"],  # simulated
    "docs/nothing-lost.md#": ["2 % are added", "a torch other than 2.13"],
    "docs/original.md#": ["dropout 0.1"],
    "docs/theory.md#What switches do": ["ln L + 0.58"],
    "docs/theory.md#Three ways to the same number: `attnlib theory`": [
        *("0.005 decades a layer, any", "than 0.005 decades"),
    ],
}

# Measurements that no command prints from committed runs: by section and the words that say where they come from.
ELSEWHERE = {
    "results/reference/README.md#Another machine": {
        "`pytest bench/test_train_step.py --seq-lens 256 --depths 2`": [
            "of 1.9 % instead of 8.8 % ... instead of 2.9 %"
        ],
    },
    "results/reference/README.md#Time and memory": {
        "On an Intel Xeon, in earlier runs": ["it took 4.26 [3.85, 4.70] times"],
        "For T5 the command is `attnlib ab heap=kept heap=system": [
            "1.76 [1.69, 1.83] (T5) and 2.15 [1.99, 2.33] (FIRE) times",
            "1.01 [0.97, 1.06] times",
        ],
        "Earlier runs with the default heap, on an Intel Xeon": ["of 4.0 (T5, KERPLE), 5.1 (Shaw) and 9.2 (FIRE)"],
        "`pytest bench/test_peers.py -k MultiheadAttention` measures them again": [
            *("0.82 to 0.96 of", "interval is 0.975"),
        ],
    },
    "results/reference/README.md#What switches cost": {
        "(`pytest bench/test_peers.py -k test_rotary`, one run:": ["take 0.32 of its time ... 0.57, 0.60 and 0.98"],
        "(`pytest bench/test_switches.py -k family`, unit gain)": ["(cosine 1.00) ... Gemma's 131 and 0.56"],
    },
    "docs/cluster.md#How its own cost grows": {
        "This simulation prints the table below": [
            *("took 1.3 s each", "| 10 | 1 | 1 | ... 653 MiB |", "35 s and 1.9 GiB"),
        ],
    },
    "docs/cost.md#Peak memory": {
        "The other rows were measured on 2 cores at commit c3d70c8": [
            "| 258 in float32 ... | 1,783,738,408 bytes predicted",
        ],
        "Its step took 169 s on 2 cores": ["takes about 0.3 GiB", "8.2 GB at most, and 2.1 GB with"],
    },
    "docs/cost.md#What a switch is worth": {
        "These numbers are from an earlier version": ["(base: 83.4 MiB) ... | 83.4 MiB | 105 MiB |"],
    },
    "docs/method.md#A visit": {
        "On a shared 2-core EPYC": ["took 10 to 20 % longer ... came out 2 to 7 % too low"],
    },
    "docs/method.md#The same conditions for every case": {
        "On two cores beside a busy loop": ["[0.09, 11.8] ... within 2 %"],
    },
    "docs/method.md#The four verdicts": {
        "own placement were measured in turns": ["spread by 0.7 to 1.0 % ... by 0.9 to 2.8 %"],
    },
    "docs/method.md#How often they err": {
        # each row names its command, which measures for minutes or hours
        "Counted on shared 2-core machines": [
            *("| | same code | slower code | ... 38 of 40 draws", "no added load ... 12 of 12"),
        ],
        "runs of an earlier version, with one visit a case": ["75.9 %, worst group 41.9 %"],
    },
    "docs/your-own.md#Is it right?": {
        "was measured beside `--reference pe=rotary` with `--budget 1.6`": ["1.00 within 1.4 %"],
    },
    "docs/your-own.md#Two functions of yours": {
        "`python -m attnlib.tests.beside.trial same more agree` measures them": ["tests of 0.07 ... limit by 0.0002"],
    },
}
