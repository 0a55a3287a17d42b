"""Models by place: torch.nn's, x-transformers' and transformers', each from tokens to logits."""

from dataclasses import replace

import pytest
import torch

from attnlib.cases.case import Case, unsupported
from attnlib.cases.workload import build
from attnlib.measure.clock import bind
from attnlib.measure.device import open_device
from attnlib.model import StackConfig
from attnlib.model.own_model import MODELS
from attnlib.predict.flops import parameters
from attnlib.predict.peak import prediction
from attnlib.tests import ROOT

NETS = (ROOT / "examples" / "own-model" / "mylab.py").read_text()
NAMES = ("torch_encoder", "x_transformers", "bert", "llama")
SMALL = {"seq_len": 8, "depth": 2, "d_model": 32, "n_heads": 4, "n_classes": 3}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("phase", ["forward", "backward", "train_step"])
def test_models_of_others_are_measured(name, phase, lab):
    """Each passes the gate: logits [B, n_classes], finite, and a gradient for its first and last parameter."""
    bind(open_device("cpu"))
    work = build(Case(model=f"{lab(NETS)}:{name}", phase=phase, **SMALL))
    assert work.check() > 0
    weighed = work.weigh(open_device("cpu"))

    assert work.network(work.tokens).shape == (2, 3)
    assert weighed["allocated_peak"]["value"] > 0
    assert set(work.gradient_ends) == (set() if phase == "forward" else {"first", "last"})
    assert all(end["norm"] > 0 for end in work.gradient_ends.values())


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_counted(name, lab):
    """All of the model's, and of the head that hidden states are put through."""
    config = Case(model=f"{lab(NETS)}:{name}", **SMALL)
    model = MODELS[config.model](config)
    head = 0 if model.head is None else 32 * 3 + 3

    assert parameters(config) == sum(p.numel() for p in model.own.parameters()) + head


def test_a_peak_is_predicted_or_not_with_a_reason(lab):
    """Without storage torch's own encoder runs; one that reads a number of a tensor does not."""
    module = lab(NETS)
    found = {name: prediction(Case(model=f"{module}:{name}", **SMALL)) for name in ("torch_encoder", "bert")}

    assert found["torch_encoder"]["value"] > 4 * parameters(Case(model=f"{module}:torch_encoder", **SMALL))
    assert found["bert"]["value"] is None
    assert found["bert"]["reason"]


def test_hidden_states_are_averaged_over_the_tokens(lab):
    """[B, T, D] goes through the mean over T and one linear head."""
    text = """
        from torch import nn

        def embedding(c):
            return nn.Embedding(c.vocab_size, c.d_model)
    """
    model = MODELS[f"{lab(text)}:embedding"](StackConfig(**SMALL))
    tokens = torch.arange(16).view(2, 8)

    assert torch.equal(model(tokens), model.head(model.own(tokens).mean(1)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("made = 3", "must be a function of a StackConfig, not int"),
        ("def made(): pass", "must be a function of a StackConfig: too many positional arguments"),
    ],
)
def test_no_maker_of_models(text, message, lab):
    """It is one line that names it, before anything is built."""
    with pytest.raises(ValueError, match=f"^model '.*:made' {message}"):
        MODELS[f"{lab(text)}:made"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("made = lambda c: None", "it must return a torch.nn.Module, not NoneType"),
        ("from torch import nn\nmade = lambda c: nn.Linear(3, 3)", "^model .*: RuntimeError: "),
        (
            "from torch import nn\nmade = lambda c: nn.Sequential(nn.Embedding(52, 5), nn.Flatten())",
            r"for tokens \[2, 8\] it must return logits \[2, 3\] or hidden states \[2, 8, D\], not \[2, 40\]",
        ),
    ],
)
def test_a_model_that_does_not_fit(text, message, lab):
    """It says what it gives and what is needed."""
    config = Case(model=f"{lab(text)}:made", **SMALL)
    with pytest.raises((ValueError, RuntimeError), match=message):
        build(config)


def test_only_steps_of_models_are_measured(lab):
    """A model has no encoding that could be timed alone, and no stack whose gradients theory knows."""
    case = Case(model=f"{lab(NETS)}:torch_encoder", **SMALL)

    assert unsupported(case) is None
    for phase in ("encoding", "epoch", "rate", "learn"):
        assert "is one of the stack, not of model" in unsupported(replace(case, phase=phase, pe="rotary"))


GATED = """
    import torch
    from torch import nn

    def frozen(c):
        return nn.Embedding(c.vocab_size, c.d_model).requires_grad_(False)

    def normed(c):
        return nn.Sequential(nn.Embedding(c.vocab_size, 4), nn.Flatten(), nn.BatchNorm1d(4 * c.seq_len),
                             nn.Linear(4 * c.seq_len, c.n_classes))

    class Last(nn.Module):
        def __init__(self, c, last):
            super().__init__()
            self.embed, self.last = nn.Embedding(c.vocab_size, c.n_classes), last

        def forward(self, tokens):
            return self.last(self.embed(tokens).mean(1))

    def double(c):
        return Last(c, lambda y: y.double())

    def random(c):
        return Last(c, lambda y: y + torch.rand(1))

    made = nn.Embedding(52, 3)

    def shared(c):
        return made
"""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("frozen", "a train step gave no parameter a gradient"),
        ("double", "logits must be torch.float32, not torch.float64"),
        ("random", "two calls without dropout differ by"),
    ],
)
def test_the_gate_refuses_wrong_models(lab, name, message):
    """It names the model; the head that is put behind it does not count."""
    bind(open_device("cpu"))
    place = f"{lab(GATED)}:{name}"
    with pytest.raises(AssertionError, match=f"^model '{place}': {message}"):
        build(Case(model=place, **SMALL)).check()


def test_running_means_are_not_in_the_way(lab):
    """A model with BatchNorm is built and passes the gate."""
    bind(open_device("cpu"))

    assert build(Case(model=f"{lab(GATED)}:normed", **SMALL)).check() > 0


def test_each_call_makes_a_new_model(lab):
    """One that gives the same module again is refused."""
    case = Case(model=f"{lab(GATED)}:shared", **SMALL)
    made = build(case)
    with pytest.raises(ValueError, match="it returned this module before; make a new one in each call"):
        build(case)
    assert made.model.training


def test_modes_of_parts_stay(lab):
    """A part that its maker switched to evaluation stays there, and the rest trains."""
    bind(open_device("cpu"))
    text = """
        from torch import nn

        def net(c):
            model = nn.Sequential(nn.Embedding(c.vocab_size, c.d_model), nn.Dropout(0.5), nn.Dropout(0.0))
            model[1].eval()
            return model
    """
    work = build(Case(model=f"{lab(text)}:net", **SMALL))
    work.check()

    assert [module.training for module in work.model.own] == [True, False, True]
