"""Parts by place: encodings, blocks, attentions and initialisations that need not know of this package."""

import importlib.metadata
from dataclasses import asdict, replace

import pytest
import torch
import torch.nn.functional as F

from attnlib.cases.case import Case, origins, timed_case, unsupported
from attnlib.model import StackConfig, build_model, registry
from attnlib.model.attention import ATTENTION, INITS, math_attention
from attnlib.model.blocks import BLOCKS
from attnlib.model.positional import POSITIONAL
from attnlib.predict.flops import algorithmic_flops, executed_flops, parameters
from attnlib.predict.peak import need, prediction
from attnlib.tests.own.conftest import ROTARY

TOKENS = torch.randint(0, 52, (2, 16), generator=torch.Generator().manual_seed(0))


def logits(config):
    """Logits of a seeded stack."""
    torch.manual_seed(0)
    return build_model(config)(TOKENS)


def test_a_copy_of_ours_is_ours(lab):
    """A rotary of somebody else's gives the same numbers as ours, and is predicted to cost the same to the byte."""
    ours = Case(pe="rotary", seq_len=16, depth=3)
    theirs = replace(ours, pe=f"{lab()}:MyRotary")

    assert torch.equal(logits(ours), logits(theirs))
    assert parameters(ours) == parameters(theirs)
    assert need(ours) == need(theirs)
    assert executed_flops(ours, 2, "attention_math") == executed_flops(theirs, 2, "attention_math")
    assert algorithmic_flops(ours, 2) == algorithmic_flops(theirs, 2)


@pytest.mark.parametrize("pe", [pe for pe in POSITIONAL if "_" not in pe and pe != "none"])
def test_every_method_is_handed_on(pe, lab):
    """An encoding that only has the methods of one of ours gives what that gives, its FLOPs included."""
    text = """
        from attnlib.model.positional import POSITIONAL
        from torch import nn

        def copy(**sizes):
            inner = POSITIONAL["PE"](**sizes)

            class Copy(nn.Module):
                def __init__(self):
                    super().__init__()
                    self.inner = inner

            for name in ("embed", "rotate", "bias", "by_distance", "query_bias", "pair_bias"):
                if inner.overrides(name):
                    setattr(Copy, name, staticmethod(getattr(inner, name)))
            return Copy()
    """.replace("PE", pe)
    ours = StackConfig(pe=pe, seq_len=16, causal=True)
    theirs = replace(ours, pe=f"{lab(text)}:copy")

    assert torch.equal(logits(ours), logits(theirs))
    assert algorithmic_flops(ours, 2)["encoding"] == algorithmic_flops(theirs, 2)["encoding"]


def test_a_block_of_somebody_elses(lab):
    """Its sublayer wraps attention and feed-forward; it gets those of the keywords that it takes."""
    text = """
        class Scaled:
            def __init__(self, depth, sublayers):
                self.scale, self.sublayers = depth ** -0.5, sublayers

            def sublayer(self, x, function, index):
                assert index < self.sublayers
                return x + self.scale * function(x)

        class Residual:
            def sublayer(self, x, function, index):
                return x + function(x)
    """
    module, config = lab(text), StackConfig(block="residual", seq_len=16, ffn_mult=2)

    assert torch.equal(logits(config), logits(replace(config, block=f"{module}:Residual")))
    assert not torch.allclose(logits(config), logits(replace(config, block=f"{module}:Scaled")))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(
    "place",
    [
        "transformers.integrations.sdpa_attention:sdpa_attention_forward",
        "transformers.models.llama.modeling_llama:eager_attention_forward",
    ],
)
def test_attention_through_transformers_interface(place, biased, causal):
    """Functions of transformers' attention interface give what attention written out gives."""
    q, k, v = torch.randn(3, 2, 4, 7, 8, generator=torch.Generator().manual_seed(1))
    bias = torch.randn(1, 4, 7, 7, generator=torch.Generator().manual_seed(2)) if biased else None
    if biased and causal:
        bias = bias.masked_fill(torch.ones(7, 7, dtype=torch.bool).triu(1), -torch.inf)

    torch.testing.assert_close(ATTENTION[place](q, k, v, bias, causal), math_attention(q, k, v, bias, causal))


def test_attention_of_somebody_elses(lab):
    """A function of (q, k, v, bias, causal) is called as it is."""
    text = """
        import torch.nn.functional as F

        def attend(q, k, v, bias, causal):
            return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, is_causal=causal)
    """
    config = StackConfig(pe="rotary", seq_len=16, causal=True)

    assert torch.equal(logits(config), logits(replace(config, attention=f"{lab(text)}:attend")))


def test_an_initialisation_of_somebody_elses(lab):
    """It gets both projections, and may write to them."""
    text = """
        def zeros(qkv, out):
            for linear in (qkv, out):
                linear.weight.zero_()
                linear.bias.zero_()
    """
    torch.manual_seed(0)
    model = build_model(StackConfig(init=f"{lab(text)}:zeros", depth=1))

    assert not any(bool(p.any()) for p in model.stack.parameters())
    assert F.linear(torch.ones(2, 64), model.stack.layers[0].attention.qkv.weight).abs().max() == 0


WRONG = """
    import sys
    VALUE = 3
    class NoMethods:
        def __init__(self, seq_len, d_model, n_heads, head_dim, causal): pass
    class OtherArguments:
        def __init__(self, size): pass
        def embed(self, x): return x
    class OtherRotate:
        def __init__(self, **sizes): pass
        def rotate(self, q): return q
    class Broken:
        def __init__(self, **sizes): self.missing.attribute
        def embed(self, x): return x
    class OtherSublayer:
        def sublayer(self, x): return x
    class NeedsMore:
        def __init__(self, width): pass
        def sublayer(self, x, function, index): return x
    def one(q): return q
"""


@pytest.mark.parametrize(
    ("parts", "place", "message"),
    [
        (POSITIONAL, "VALUE", "must be a class, or a function that makes one, not int"),
        (POSITIONAL, "Absent", "cannot be imported: AttributeError: module .* has no attribute 'Absent'"),
        (POSITIONAL, "NoMethods", "has none of the methods embed, rotate, bias, by_distance, query_bias, pair_bias"),
        (POSITIONAL, "OtherArguments", "must take the keywords seq_len, d_model, n_heads, head_dim, causal: "),
        (POSITIONAL, "OtherRotate", "rotate must take 2 arguments beside self: too many positional arguments"),
        (BLOCKS, "VALUE", r"must be a class with a method sublayer\(x, function, index\)"),
        (BLOCKS, "OtherSublayer", "sublayer must take x, function and index: too many positional arguments"),
        (
            BLOCKS,
            "NeedsMore",
            "must need no keywords but d_model, depth, sublayers, index: missing a required argument",
        ),
        (ATTENTION, "VALUE", "must be a function, not int"),
        (ATTENTION, "one", r"must take \(q, k, v, bias, causal\), or begin with \(module, query, "),
        (INITS, "one", "must be a function of two projections, qkv and out: too many positional arguments"),
    ],
)
def test_what_does_not_fit_is_one_line(parts, place, message, lab):
    """It names the part and says which of its parts does not fit."""
    name = f"{lab(WRONG)}:{place}"
    with pytest.raises(ValueError, match=f"^{parts.kind} '{name}'.*{message}") as raised:
        parts[name]

    assert "\n" not in str(raised.value)


def test_an_error_of_its_constructor_says_whose_it_is(lab):
    """A command says it in one line; a run leaves it to the row of the case."""
    name = f"{lab(WRONG)}:Broken"
    with pytest.raises(ValueError, match=f"pe '{name}': AttributeError: 'Broken' object has no attribute 'missing'"):
        timed_case({"pe": name})

    assert unsupported(Case(pe=name)) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import no_such_package", "No module named 'no_such_package'; --import-path FOLDER adds a folder"),
        ("def (", "cannot be imported: SyntaxError: "),
        ("raise RuntimeError('no licence\\nfound')", "cannot be imported: RuntimeError: no licence"),
        ("import sys; sys.exit(3)", "cannot be imported: SystemExit: 3"),
    ],
)
def test_a_module_that_cannot_be_imported(text, message, lab):
    """Whatever it does, the message is one line with its name."""
    name = f"{lab(text)}:Thing"
    with pytest.raises(ValueError, match=r"^pe '") as raised:
        POSITIONAL[name]

    assert name in str(raised.value)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["a:", ":b", "a b:c", "a:b:c", "a/b:c"])
def test_no_place(name):
    """A malformed place is named."""
    with pytest.raises(ValueError, match=r"must have the form package.module:Attribute"):
        POSITIONAL[name]


def test_printing_goes_to_standard_error(lab, capsys):
    """A module that prints when it is imported does not write into what a command prints."""
    POSITIONAL[f"{lab('print(12345)' + chr(10) + ROTARY_TEXT)}:MyRotary"]
    out, err = capsys.readouterr()

    assert out == ""
    assert "printed: 12345" in err


ROTARY_TEXT = """
class MyRotary:
    def __init__(self, **sizes): pass
    def rotate(self, q, k): return q, k
"""


class Point:
    """An entry point of a distribution."""

    def __init__(self, name, value, dist):
        self.name, self.value = name, value
        self.dist = type("Distribution", (), {"name": dist, "version": "1.2"})()


@pytest.fixture(name="offer")
def _offer(monkeypatch):
    """Let packages offer entry points."""

    def offer(*points):
        registry.offered.cache_clear()
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points if "encodings" in group else ())

    yield offer
    registry.offered.cache_clear()


def test_by_entry_point(lab, offer):
    """A name that a package offers is taken like one of ours; its row says which package, and its version."""
    offer(Point("turned", f"{lab()}:MyRotary", "mylab"))
    case = Case(pe="turned", seq_len=16)

    assert torch.equal(logits(case), logits(replace(case, pe="rotary")))
    assert "turned" in POSITIONAL
    assert "turned" not in list(POSITIONAL)
    assert {key: origins(case)["pe"][key] for key in ("distribution", "version")} == {
        "distribution": "mylab",
        "version": "1.2",
    }


def test_a_name_of_two_is_an_error_that_names_them(offer):
    """Two are one of ours and a package's, or two packages'; other names work, and broken ones that nobody asks for."""
    offer(
        Point("rotary", "x:y", "mylab"),
        Point("twice", "x:y", "one"),
        Point("twice", "x:z", "two"),
        Point("broken", "no_such_package:y", "three"),
    )
    for name, owners in (("rotary", "attnlib and mylab"), ("twice", "one and two")):
        with pytest.raises(ValueError, match=f"pe '{name}' is offered by {owners}; name its place instead"):
            POSITIONAL[name]
    assert POSITIONAL["alibi"]
    with pytest.raises(ValueError, match=r"^pe 'broken' of three cannot be imported: No module named"):
        POSITIONAL["broken"]


def test_the_source_is_in_the_row_and_not_in_the_id(lab, tmp_path):
    """Before and after a change of the file the case is the same, and its source is not."""
    module = lab()
    case = Case(pe=f"{module}:MyRotary")
    before, identity = origins(case)["pe"], case.id
    with (tmp_path / f"{module}.py").open("a") as file:
        file.write("# changed\n")
    registry.source_digest.cache_clear()

    assert origins(case)["pe"]["source"] != before["source"]
    assert case.id == identity
    assert {key: before[key] for key in ("name", "distribution", "version")} == {
        "name": case.pe,
        "distribution": None,
        "version": None,
    }
    assert "heap" in asdict(case)


def test_tensors_on_the_fly_are_made_where_the_part_is(lab):
    """An encoding that makes a tensor in each call is predicted and counted like any other."""
    text = """
        import torch

        class Alibi:
            def __init__(self, seq_len, d_model, n_heads, head_dim, causal):
                self.slopes = 2.0 ** -torch.arange(1, n_heads + 1)

            def bias(self, seq_len):
                place = torch.arange(seq_len)
                return -(place[:, None] - place).abs() * self.slopes[:, None, None]
    """
    case = Case(pe=f"{lab(text)}:Alibi", seq_len=16)

    assert executed_flops(case, 2, "attention_math") == executed_flops(replace(case, pe="alibi"), 2, "attention_math")
    assert need(case).peak > 0


def test_what_needs_storage_is_built_on_the_cpu(lab):
    """A constructor that reads numbers works, and is counted, though it cannot be predicted."""
    text = """
        import torch

        class Reads:
            def __init__(self, seq_len, **sizes):
                self.table = torch.from_numpy(torch.arange(seq_len, dtype=torch.float32).numpy())

            def embed(self, x):
                return x + self.table[:, None]
    """
    case = Case(pe=f"{lab(text)}:Reads", seq_len=16)

    assert unsupported(case) is None
    assert executed_flops(case, 2, "attention_math")["encoding"] == (0, 0)
    assert "value" in prediction(case)


def test_attributes_that_are_no_methods_are_its_own_business(lab):
    """A parameter called bias and a module called embed are not called."""
    text = """
        from torch import nn
        import torch

        class Named(nn.Module):
            def __init__(self, d_model, **sizes):
                super().__init__()
                self.bias, self.embed = nn.Parameter(torch.zeros(d_model)), nn.Embedding(3, d_model)

            def rotate(self, q, k):
                return q, k
    """
    config = StackConfig(pe=f"{lab(text)}:Named", seq_len=16)
    encoding = POSITIONAL[config.pe](seq_len=16, d_model=64, n_heads=4, head_dim=16, causal=False)

    assert not encoding.biases
    assert logits(config).shape == (2, 2)


def test_a_module_with_parameters_is_no_attention(lab):
    """All layers would share it, and a prediction would move it to where there is no storage."""
    name = f"{lab('from torch import nn' + chr(10) + 'shared = nn.Linear(3, 3)')}:shared"
    with pytest.raises(ValueError, match="is a module with parameters, which all layers would share"):
        ATTENTION[name]


@pytest.mark.parametrize(
    ("theory", "message"),
    [
        ("{'rat': -0.4}", "theory has the unknown key 'rat'; choose from rate, collapse_exponent"),
        ("5", "theory must be a dict of rate and collapse_exponent, not 5"),
        ("{'rate': 'x'}", "theory's rate must be a number, not 'x'"),
    ],
)
def test_theory_is_numbers_by_known_names(lab, theory, message):
    """Anything else is refused when the name is looked up."""
    text = f"""
        class Stated:
            theory = {theory}
            def __init__(self, **sizes): pass
            def embed(self, x): return x
    """
    with pytest.raises(ValueError, match=message):
        POSITIONAL[f"{lab(text)}:Stated"]


def test_the_source_of_a_partial_is_its_own_file(lab, tmp_path):
    """Not that of functools."""
    module = lab(ROTARY + "\nfrom functools import partial\nmade = partial(MyRotary)\n")

    assert POSITIONAL.origin(f"{module}:made")["source"] == POSITIONAL.origin(f"{module}:MyRotary")["source"]
    assert POSITIONAL.origin(f"{module}:made")["source"] == registry.source_digest(module)


def test_the_source_is_that_of_the_defining_file(tmp_path, monkeypatch):
    """A class that a package's __init__ imports is hashed where it is written."""
    (tmp_path / "someones_package").mkdir()
    (tmp_path / "someones_package" / "inner.py").write_text(ROTARY)
    (tmp_path / "someones_package" / "__init__.py").write_text("from someones_package.inner import MyRotary\n")
    monkeypatch.syspath_prepend(tmp_path)
    source = POSITIONAL.origin("someones_package:MyRotary")["source"]

    assert source == registry.source_digest("someones_package.inner")
