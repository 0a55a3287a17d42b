"""Checks of parts: ours pass, those of a zoo fail where they break a rule, each in one line."""

import random
import time

import pytest
import torch

from attnlib.cases import conformance
from attnlib.cases.case import DTYPES, Case
from attnlib.cases.conformance import FAILED, NOT_APPLICABLE, PASSED, check_part, kind_of, problem_of
from attnlib.cases.subject import KINDS

ZOO = "attnlib.tests.cases.zoo:"
BUILT_IN = [(kind, name) for kind, registry in KINDS.items() for name in registry if name != "flex"]
GOOD = {
    "pe": ("Encoding", "Slopes", "ComputesInFloat32"),
    "attention": ("attention", "float32_weights"),
    "block": ("Gate",),
    "init": ("weights",),
}
BAD = [
    ("pe", "SeesTheMean", "causality", "it sees the future: changing the tokens after token"),
    ("pe", "SeesTheNext", "causality", "it sees the future: changing the tokens after token 15 changes output 15 by"),
    ("pe", "DividesByZero", "finite", "embed: 96 of 3072 numbers are NaN or infinite"),
    ("pe", "LongBias", "outputs", "bias must have shape [2, 32, 32], not [2, 32, 33]"),
    ("pe", "Doubles", "outputs", "rotate's q must be torch.float32, not torch.float64"),
    ("pe", "OnlyQueries", "outputs", "rotate must return a tuple of 2 tensors, not a Tensor"),
    ("pe", "GivesNone", "outputs", "embed must be a tensor, not NoneType"),
    ("pe", "TwoBiases", "outputs", "bias and by_distance differ by 1 of the largest number"),
    ("pe", "Counts", "same twice", "of the largest output: it keeps state between calls"),
    (
        "pe",
        "RemembersTheFirstLength",
        "same twice",
        "with 16 tokens, where a new instance is called with them first, it",
    ),
    ("pe", "DropsOut", "same twice", "of the largest output: it draws random numbers"),
    ("pe", "Constant", "state", "weights is neither parameter nor buffer, so that .to() misses it; register it as"),
    ("pe", "Unsaved", "state", "another instance with its state_dict differs by"),
    ("pe", "WrongForInputs", "gradients", "of the input, along a random direction:"),
    ("pe", "WrongForParameters", "gradients", "of own.table, along a random direction:"),
    ("pe", "Raises", "outputs", "RuntimeError: no such table"),
    ("pe", "Exits", "outputs", "SystemExit: 3"),
    ("pe", "CannotBeMade", "made", "AttributeError: 'CannotBeMade' object has no attribute 'missing'"),
    ("pe", "Prints", "silent", "it prints while it runs: embedding (3, 32, 32)"),
    ("attention", "forgets_the_mask", "causality", "it sees the future: changing the tokens after token"),
    ("attention", "ignores_bias", "bias", "it ignores a bias [1, 2, 32, 32], so that encodings that add to the scores"),
    ("attention", "drops_infinity", "bias", "a key that the bias hides by -inf changes the output by"),
    ("attention", "tokens_first", "outputs", "the output must have shape [3, 2, 32, 16], not [3, 32, 2, 16]"),
    ("block", "LeavesOut", "outputs", "sublayer 1 never calls its function, so that the layer would attend to nothing"),
    ("block", "Centres", "causality", "it sees the future: changing the tokens after token"),
    ("block", "Narrow", "outputs", "sublayer 0 must have shape [3, 32, 32], not [3, 32, 31]"),
    ("init", "forgets_biases", "finite", "qkv.bias: 96 of 96 numbers are NaN or infinite"),
    ("init", "freezes", "outputs", "out.bias must stay a parameter that takes a gradient"),
    ("init", "draws_by_itself", "same twice", "out.weight differs by"),
]
WIDE = ("float64", "float32")
AGREEING = [
    ("attention", "sdpa", "math", DTYPES),
    ("attention", ZOO + "attention", "sdpa", WIDE),  # in 16 bits its scores have too few digits at large inputs
    ("pe", ZOO + "Encoding", ZOO + "Encoding", DTYPES),
    ("pe", ZOO + "Encoding", ZOO + "Renamed", DTYPES),
    ("pe", ZOO + "Encoding", "learned", DTYPES),
    ("pe", "t5", "t5", DTYPES),
    ("block", ZOO + "Gate", "rezero", DTYPES),
]


@pytest.fixture(autouse=True)
def _one_thread():
    """The stacks are too small for two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def results(found, result):
    """The reasons of checks with this result, by name."""
    return {one.check: one.reason for one in found if one.result == result}


@pytest.mark.parametrize(("kind", "name"), BUILT_IN, ids=[name for _, name in BUILT_IN])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_ours_pass(kind, name, dtype):
    """Every part of this package passes every check in a causal stack, but for one that draws offsets in training."""
    found = check_part(kind, name, causal=True, dtype=dtype)

    if name == "learned_offset":
        assert "it draws random numbers" in results(found, FAILED)["same twice"]
    else:
        assert {one.result for one in found} == {PASSED}, found


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in GOOD.items() for name in names])
@pytest.mark.parametrize("causal", [False, True])
def test_others_that_keep_the_rules_pass(kind, name, causal):
    """A module, a class that is none, transformers' interface, and arithmetic in float32; nothing is said of others."""
    found = check_part(kind, ZOO + name, causal=causal)
    aside = results(found, NOT_APPLICABLE)

    assert not results(found, FAILED)
    assert set(aside) - {"meta"} == ({"causality"} if not causal and kind != "init" else set())


@pytest.mark.parametrize("size", [16, 64, 128])
def test_rounding_inside_is_no_wrong_gradient(size):
    """Finite differences of a part that rounds to float32 take a long step, at every size."""
    for name in ("float32_weights", "attention"):
        found = check_part("attention", ZOO + name, seq_len=size, head_dim=size)

        assert not results(found, FAILED)


@pytest.mark.parametrize(("kind", "name", "check", "reason"), BAD, ids=[name for _, name, *_ in BAD])
def test_a_broken_rule_is_one_line(kind, name, check, reason):
    """One check fails and says in a line what is wrong; those that need it are not looked at."""
    found = check_part(kind, ZOO + name, causal=True)
    failed = results(found, FAILED)

    assert list(failed) == [check]
    assert reason in failed[check]
    assert "\n" not in failed[check]
    if check in conformance.FIRST:
        assert all("not looked at" in text for text in results(found, NOT_APPLICABLE).values())


def test_what_needs_another_device_says_so():
    """Without CUDA, torch's own words are the reason."""
    if torch.cuda.is_available():
        pytest.skip("CUDA is available")
    (reason,) = results(check_part("pe", ZOO + "NeedsCuda"), FAILED).values()

    assert "CUDA" in reason
    assert "\n" not in reason


def test_another_meaning_of_an_argument():
    """Torch's own function takes a dropout where ours says causal: all is dropped, and the checks say so."""
    own = "torch.nn.functional:scaled_dot_product_attention"

    assert not results(check_part("attention", own, oracle="math"), FAILED)
    assert results(check_part("attention", own, causal=True), FAILED) == {
        "outputs": "the stack gives the same output whatever tokens it gets"
    }


def test_no_gradient_at_all():
    """A part that detaches fails, though nothing is wrong with its outputs."""
    found = results(check_part("pe", ZOO + "Detaches"), FAILED)

    assert list(found) == ["gradients"]
    assert found["gradients"].startswith("of the input, along a random direction: nothing by autograd, ")


def test_what_meta_tensors_cannot_do_is_a_note():
    """A part that reads values is not predicted, and passes."""
    found = check_part("pe", ZOO + "NeedsData")

    assert not results(found, FAILED)
    assert results(found, NOT_APPLICABLE)["meta"].startswith("not predicted: ")


def test_a_bias_may_be_refused():
    """It is no failure, and is said; an oracle is compared without one."""
    found = check_part("attention", ZOO + "refuses_bias", oracle="math")

    assert not results(found, FAILED)
    assert "it refuses a bias [1, 2, 32, 32]" in results(found, NOT_APPLICABLE)["bias"]
    assert "NotImplementedError: no bias here" in results(found, NOT_APPLICABLE)["bias"]
    assert "oracle x1000" in results(found, PASSED)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_large_inputs_overflow(dtype):
    """A softmax without its maximum agrees with the oracle at ordinary inputs and not at large ones."""
    found = check_part("attention", ZOO + "overflows", oracle="math", dtype=dtype)
    failed = results(found, FAILED)

    assert "oracle" in results(found, PASSED)
    assert "NaN or infinite, the oracle's are not" in failed["oracle x1000"]
    assert set(failed) <= {"oracle x30", "oracle x1000"}


@pytest.mark.parametrize(
    ("kind", "name", "oracle", "reason"),
    [
        ("attention", ZOO + "without_scale", "math", "the output differs by"),
        ("pe", "rotary", "rotary_interleaved", "rotate's q differs by"),
        ("pe", "none", "alibi", "the oracle gives bias, the part does not"),
        ("block", ZOO + "Gate", "residual", "sublayer 0 differs by"),
    ],
)
def test_an_oracle_that_disagrees(kind, name, oracle, reason):
    """Another scale, another pairing, another wrap: the output and the difference are named."""
    failed = results(check_part(kind, name, oracle=oracle), FAILED)

    assert list(failed) == ["oracle", "oracle x30", "oracle x1000"][: len(failed)]
    assert reason in failed["oracle"]


@pytest.mark.parametrize(("kind", "name", "oracle", "dtypes"), AGREEING, ids=[name for _, name, *_ in AGREEING])
def test_an_oracle_that_agrees(kind, name, oracle, dtypes):
    """Two ways to compute the same agree at every size of inputs, with the same parameters."""
    for dtype in dtypes:
        passed = results(check_part(kind, name, oracle=oracle, dtype=dtype, causal=True), PASSED)

        assert {"oracle", "oracle x30", "oracle x1000"} <= set(passed), dtype


def test_parameters_that_cannot_be_paired():
    """Nothing can be said of two learned encodings whose parameters differ in shape."""
    found = check_part("pe", "t5", oracle="kerple")

    assert "cannot be paired with the oracle's (" in results(found, NOT_APPLICABLE)["oracle"]
    assert not results(found, FAILED)


def test_an_oracle_must_exist():
    """It is imported before anything is checked; an initialisation has none."""
    with pytest.raises(ValueError, match=r"attention 'nowhere.at:all' cannot be imported"):
        check_part("attention", "math", oracle="nowhere.at:all")
    with pytest.raises(ValueError, match="an initialisation is random"):
        check_part("init", "unit", oracle="linear")


def test_a_mistake_of_ours_is_raised(monkeypatch):
    """Only what a part raises is a finding."""
    monkeypatch.setitem(conformance.FURTHER, "gradients", lambda subject: subject.no_such_thing)
    with pytest.raises(AttributeError, match="no_such_thing"):
        check_part("pe", "none")


def test_the_process_is_left_as_it_was():
    """Random numbers of torch and Python are those that would have come, and the precision of products stays."""
    states = torch.get_rng_state(), random.getstate(), torch.get_float32_matmul_precision()
    check_part("pe", ZOO + "Encoding", causal=True)
    problem_of(Case(pe=ZOO + "Encoding", seq_len=40))

    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (random.getstate(), torch.get_float32_matmul_precision())


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("rotary", "pe"), ("unit", "init"), (ZOO + "Slopes", "pe"), (ZOO + "attention", "attention")),
        *((ZOO + "float32_weights", "attention"), (ZOO + "Gate", "block"), (ZOO + "weights", "init")),
    ],
)
def test_a_kind_is_guessed(name, kind):
    """A name of ours is of one kind, and the signature of somebody else's part fits one."""
    assert kind_of(name) == kind


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            ZOO + "Nothing",
            "fits no kind: as pe: has none of the methods embed, rotate, bias, by_distance, query_bias, pair_bias",
        ),
        (
            ZOO + "OtherKeywords",
            "fits no kind: as pe: must take the keywords seq_len, d_model, n_heads, head_dim, causal",
        ),
        (
            ZOO + "OtherSignature",
            "fits no kind: as pe: embed must take 1 argument beside self: missing a required argument",
        ),
        (ZOO + "without_causal", "fits no kind: .*as attention: must take \\(q, k, v, bias, causal\\)"),
        (ZOO + "takes_anything", "may be pe or attention or init; say which with --kind"),
        (ZOO + "no_such", "cannot be imported: AttributeError: module"),
        ("no_such.module:Part", "cannot be imported: No module named 'no_such'; --import-path FOLDER adds"),
        ("ropee", "unknown part 'ropee'; choose a name that attnlib list shows"),
    ],
)
def test_no_kind_fits(name, reason):
    """The line says for each kind what is missing."""
    with pytest.raises(ValueError, match=reason) as caught:
        kind_of(name)
    assert "\n" not in str(caught.value)


def test_our_parts_are_not_checked_again(monkeypatch):
    """A case of built-in parts has no problem, and nothing runs."""
    monkeypatch.setattr(conformance, "problem_of_small", None)

    assert problem_of(Case(pe="rotary", block="pre_ln")) is None


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"pe": "Encoding"}, None),
        ({"pe": "Slopes", "attention": "attention", "block": "Gate", "init": "weights"}, None),
        ({"pe": "SeesTheMean"}, None),
        ({"pe": "SeesTheMean", "causal": True}, "pe 'attnlib.tests.cases.zoo:SeesTheMean': it sees the future: "),
        ({"pe": "Raises"}, "pe 'attnlib.tests.cases.zoo:Raises': RuntimeError: no such table"),
        ({"pe": "CannotBeMade"}, "pe 'attnlib.tests.cases.zoo:CannotBeMade': AttributeError"),
        ({"attention": "tokens_first"}, "attention 'attnlib.tests.cases.zoo:tokens_first': the output must have shape"),
        ({"block": "Narrow"}, "block 'attnlib.tests.cases.zoo:Narrow': sublayer 0 must have shape [3, 64, 64]"),
        ({"init": "forgets_biases"}, "init 'attnlib.tests.cases.zoo:forgets_biases': qkv.bias: 192 of 192"),
        ({"pe": "no_such"}, "pe 'attnlib.tests.cases.zoo:no_such': cannot be imported: AttributeError"),
        (
            {"pe": "Slopes", "attention": "refuses_bias"},
            "pe 'attnlib.tests.cases.zoo:Slopes' with attention 'attnlib.tests.cases.zoo:refuses_bias': NotImplemented",
        ),
    ],
)
def test_problems_of_cases(fields, said):
    """The first essential check that fails is told with the name of the part, or of those that do not go together."""
    causal = fields.get("causal", False)
    own = {kind: ZOO + name for kind, name in fields.items() if kind != "causal"}
    problem = problem_of(Case(**own, causal=causal, seq_len=512, depth=8, d_model=64))

    assert problem is None if said is None else problem.startswith(said), problem
    assert "\n" not in (problem or "")


def test_an_attention_is_checked_with_the_encoding_of_ours():
    """One that refuses a bias runs without, and is told where our encoding has one."""
    own = ZOO + "refuses_bias"

    assert problem_of(Case(attention=own, pe="rotary")) is None
    assert problem_of(Case(attention=own, pe="alibi")) == f"attention {own!r}: NotImplementedError: no bias here"


def test_an_attention_that_ignores_a_bias_is_no_matter_without_one():
    """A run with ALiBi would be one without positions, and is refused; one with rotary is right."""
    own = ZOO + "ignores_bias"

    assert problem_of(Case(attention=own, pe="rotary")) is None
    assert "it ignores a bias [1, 4, 64, 64]" in problem_of(Case(attention=own, pe="alibi"))
    assert "it ignores a bias [1, 4, 64, 64]" in problem_of(Case(attention=own, pe=ZOO + "Slopes"))


@pytest.mark.parametrize("name", ["sdpa_attention:sdpa_attention_forward", "eager_paged:eager_paged_attention_forward"])
def test_attentions_of_transformers(name):
    """Those that follow its interface and need no cache pass, and agree with ours."""
    found = check_part("attention", f"transformers.integrations.{name}", causal=True, oracle="math")

    assert not results(found, FAILED)


@pytest.mark.parametrize("fields", [{"d_model": 64}, {"d_model": 4096, "n_heads": 32}, {"seq_len": 1}, {"depth": 0}])
def test_a_problem_is_found_in_time(fields):
    """It takes well under a second at any width, and no time for a case that differs in length or depth only."""
    case = Case(**{"pe": ZOO + "Encoding", "attention": ZOO + "attention", "causal": True} | fields)
    start = time.process_time()
    assert problem_of(case) is None
    first = time.process_time() - start
    for seq_len in (512, 1024, 2048):
        assert problem_of(Case(**case.values | {"seq_len": seq_len})) is None

    assert first < 1.0
