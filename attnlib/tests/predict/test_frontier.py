"""How far a stack goes within some memory, and what it should cost: searched, run on both sides, shown."""

import json
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attnlib.cases.case import Case
from attnlib.cases.settings import Settings
from attnlib.cases.workload import build
from attnlib.commands import predict as predicting
from attnlib.commands.__main__ import main
from attnlib.commands.options import counts
from attnlib.commands.predict import saved_rates
from attnlib.measure.ceilings import Listened, Rates
from attnlib.measure.device import Device
from attnlib.measure.environment import node
from attnlib.predict import forecast as forecasts
from attnlib.predict.flops import algorithmic_flops, total
from attnlib.predict.forecast import forecast
from attnlib.predict.frontier import frontier, largest, resized
from attnlib.predict.peak import kernel_of, need
from attnlib.show.frontier import far
from attnlib.show.prediction import predicted
from attnlib.tests.runs.examples import saved

ORIGINAL = Settings.from_options({"preset": "seed", "device": "cpu", "attention": "math"}).case(phase="train_step")
SMALL = Case(d_model=32, n_heads=2, batch_size=1, pe="rotary")
MIB = 2**20


@given(
    st.integers(0, 10**6),
    st.integers(1, 10**4),
    st.integers(0, 100),
    st.integers(1, 10**9),
    st.sampled_from([1, 7, 64]),
)
def test_the_search_ends_at_the_boundary(constant, slope, square, memory, block):
    """Whatever grows: the size found fits, and one more does not; in blocks, too, and in few steps."""
    asked = []

    def peak(n):
        asked.append(n)
        n = -(-n // block) * block
        return constant + slope * n + square * n * n

    size = largest(peak, memory, 2**40)

    assert size == 0 or peak(size) <= memory
    assert peak(size + 1) > memory
    assert len(asked) < 90


def test_the_search_has_an_end():
    """A search that never ends is said to reach the last size that is tried."""
    assert largest(lambda n: 1, 10, 2**10) == 2**10


def test_the_originals_wall():
    """From its configuration alone, 8 x 512 and 64 x 64 lie inside of 24 GB, 8 x 1024 and 128 x 64 outside."""
    found = frontier(ORIGINAL, 24 * 10**9, [8], [64])

    assert 512 <= found["longest"][0]["seq_len"] < 1024
    assert 64 <= found["deepest"][0]["depth"] < 128


def test_the_originals_seconds():
    """FLOPs and a constant give its 5, 9, 18 and 42 s to their rounding: one slope, one offset, four numbers."""
    flops = [
        total(algorithmic_flops(Case(**ORIGINAL.__dict__ | {"seq_len": T, "depth": 8}), 32), "train_step")
        for T in (64, 128, 256, 512)
    ]
    seconds = (5, 9, 18, 42)
    offsets = torch.linspace(0, 3, 301, dtype=torch.float64)[:, None]
    slopes = torch.linspace(38, 44, 601, dtype=torch.float64) / flops[-1]
    left = [(offsets + slopes * f - s).abs() <= 0.5 for f, s in zip(flops, seconds, strict=True)]

    assert bool(torch.stack(left).all(0).any())


def test_doubling_the_length():
    """From T = 1024 to 2048 the fused kernel's peak doubles, and the written-out one's quadruples."""
    peaks = {
        attention: [need(Case(seq_len=T, depth=8, attention=attention)).peak for T in (1024, 2048)]
        for attention in ("sdpa", "math")
    }

    assert peaks["sdpa"][1] <= 2.1 * peaks["sdpa"][0]
    assert peaks["math"][1] >= 3.5 * peaks["math"][0]


@pytest.mark.faults  # with the long tests
def test_frontiers_bend_the_right_way():
    """Deeper stacks are shorter, longer ones shallower; where not even one fits it is 0."""
    found = frontier(SMALL, 4 * MIB, [1, 8, 4000], [16, 128])
    longest, deepest = ([p[n] for p in found[side]] for side, n in (("longest", "seq_len"), ("deepest", "depth")))

    assert longest == sorted(longest, reverse=True)
    assert deepest == sorted(deepest, reverse=True)
    assert longest[-1] == 0 < longest[-2]
    assert all(p["peak"] <= 4 * MIB < p["beyond"] for side in found.values() for p in side)


def test_equal_tokens_a_step():
    """The batch shrinks as sequences grow, and is never less than one."""
    found = frontier(SMALL, 4 * MIB, [], [32, 128, 512], tokens=128)["deepest"]

    assert [point["batch_size"] for point in found] == [4, 1, 1]


@pytest.mark.parametrize("fields", [{}, {"checkpoint": True, "block": "pre_ln"}, {"attention": "math"}, {"pe": "t5"}])
def test_both_sides_of_the_frontier_are_as_predicted(fields):
    """Just inside a step's exact peak is within the memory, just outside it is not."""
    case = Case(**SMALL.__dict__ | fields)
    for point in frontier(case, MIB, [2], [])["longest"]:
        inside, outside = (resized(case, point["depth"], point["seq_len"] + more, None) for more in (0, 1))

        assert exact_peak(inside) <= MIB < exact_peak(outside)


def exact_peak(case):
    work = build(case)
    work.check()
    return work.weigh(Device())["allocated_peak"]["value"]


@pytest.mark.parametrize("phase", ["forward", "train_step"])
@pytest.mark.parametrize("fields", [{}, {"pe": "t5"}, {"pe": "alibi"}, {"attention": "math"}])
def test_the_kernel_is_the_one_that_runs(phase, fields):
    """It is the one that torch's profiler sees."""
    case = Case(phase=phase, **fields)

    assert build(case).attention()["kernel"] in (kernel_of(case).kernel, "math")


def test_a_forecast_adds_up():
    """Kinds of memory sum to the peak, components to the FLOPs of the operators, and there is a floor of the time."""
    found = forecast(Case(pe="shaw", seq_len=32))

    assert sum(found["predicted_parts"].values()) == found["predicted_peak"]["value"]
    executed = sum(sum(flops) for flops in found["flops"]["executed"].values())
    assert executed == need(Case(pe="shaw", seq_len=32)).flops
    assert sum(found["floor_s"].values()) > 0
    json.dumps(found)


def test_a_device_that_is_not_here_has_no_time():
    """Its memory is predicted all the same, and its tables say so."""
    found = (
        forecast(Case(device="cuda", dtype="bfloat16", seq_len=32, pe="alibi")) if not torch.cuda.is_available() else {}
    )
    if not found:
        pytest.skip("it is here")

    assert found["floor_s"] is None
    assert found["predicted_peak"]["value"] > 0
    assert "no time: the device is not here" in predicted(found)[-1].after[-1]


def test_another_torch_is_said(monkeypatch):
    """Peaks were held against one release."""
    monkeypatch.setattr("attnlib.predict.forecast.is_calibrated", lambda: False)

    assert any("peaks were held against torch 2.13" in line for line in predicted(forecast(SMALL))[-1].after)


def test_what_a_compiler_fuses_is_not_predicted():
    """Its peak is null with the reason, and it has no frontier."""
    found = forecast(Case(compile=True))

    assert predicted(found)[-1].after == ["peak: not predicted: compiled steps cannot be traced"]
    with pytest.raises(ValueError, match="leave compile out"):
        frontier(Case(compile=True), MIB, [1], [])


def test_tables_of_several_encodings():
    """A column an encoding; of a single one the peaks too."""
    found = {pe: frontier(Case(**SMALL.__dict__ | {"pe": pe}), MIB, [1], [16]) for pe in ("none", "t5")}
    both, one = far(found, MIB), far({"none": found["none"]}, MIB)

    assert list(both[0].columns) == ["L", "none", "t5"]
    assert list(one[1].columns) == ["T", "none", "B", "peak", "one further"]


def test_a_length_or_depth_that_is_repeated_counts_once():
    """So it does in the options of a session."""
    assert counts("8,2,8") == [8, 2]


def test_a_long_sequence_is_predicted_without_its_batch():
    """Tokens of a petabyte have no storage either."""
    peak = need(Case(seq_len=10**14, depth=1, d_model=8, n_heads=1, phase="forward")).peak

    assert peak > 10**15


def test_disturbed_ceilings_are_said_and_those_of_a_saved_run_used(monkeypatch):
    """The least time is at the better rates of both; the reasons are given where one of the disturbed ones is used."""
    slow, fast = (Rates(rate, ((8192, 1 / rate), (2**25, 4096 / rate)), 1 / rate) for rate in (1e3, 1e6))
    monkeypatch.setattr(forecasts, "listen_undisturbed", lambda *_: Listened(slow, ["a neighbour"]))
    case = Case(seq_len=8, depth=1, d_model=8, n_heads=1, phase="forward")
    mixed = Rates(fast.flops_per_s, fast.copies, 2 * slow.operator_s)
    alone, beside, partly = forecast(case), forecast(case, fast), forecast(case, mixed)

    assert beside["floor_s"]["operators"] == pytest.approx(alone["floor_s"]["operators"] / 1e3)
    assert [found["ceilings_disturbed"] for found in (alone, beside, partly)] == [["a neighbour"], [], ["a neighbour"]]
    assert any("a neighbour" in line for line in predicted(partly)[-1].after)
    assert not any("a neighbour" in line for line in predicted(beside)[-1].after)


def test_ceilings_of_a_saved_run():
    """Its undisturbed ones count where threads, torch, card, device and dtype are those of the case."""
    rates = {"dtype": "float32", "flops_per_s": 1e12, "copies": [[8192, 1e-6], [2**25, 1e-4]], "operator_s": 1e-6}
    case = Case(seq_len=8, depth=1, d_model=8, n_heads=1, phase="forward")

    def found(machine=None, **changed):
        here = {"threads": torch.get_num_threads(), "versions": {"torch": torch.__version__}, "device": {"uuid": None}}
        reading = {"seconds": 1.0, "device": "cpu", "rates": rates | {"disturbed": []} | changed}
        data = {"machine_info": {"attnlib": here | (machine or {})}, "attnlib": {"canary": [{"seconds": 1.0}, reading]}}
        return saved_rates(SimpleNamespace(data=data), case)

    assert found() == Rates(1e12, ((8192, 1e-6), (2**25, 1e-4)), 1e-6)
    assert found(disturbed=["a neighbour"]) is found(dtype="bfloat16") is None
    assert found({"threads": 99}) is found({"versions": {"torch": "1.0"}}) is found({"device": {"uuid": "x"}}) is None


def test_runs_of_this_machine_are_looked_at(tmp_path, monkeypatch):
    """The newest first; one of another machine or processor, or one that cannot be read, hides none."""
    epyc = {"brand_raw": "AMD EPYC", "family": 25, "model": 1}
    paths = [tmp_path / f"{name}.json" for name in ("other", "broken", "moved", "newer", "older")]
    places = [("elsewhere", epyc), (None, None), (node(), epyc | {"model": 17}), (node(), epyc), (node(), None)]
    for path, (where, cpu) in zip(paths, places, strict=True):
        data = saved()
        data["machine_info"] |= {"node": where} | ({"cpu": cpu} if cpu else {})
        path.write_text(json.dumps(data) if where else "{")
    monkeypatch.setattr(predicting, "newest_first", lambda: paths)
    monkeypatch.setattr("cpuinfo.get_cpu_info", lambda: epyc)

    assert [run.path.name for run in predicting.runs_here()] == ["newer.json", "older.json"]


def test_the_commands(tmp_path, capsys):
    """``predict`` prints a line to quote; ``frontier`` prints integers and draws."""
    assert main(["predict", "phase=train_step,seq_len=32,pe=rotary"]) == 0
    assert "train_step T=32 L=2 rotary D=64 H=4 B=2 float32: " in capsys.readouterr().out
    fields = "d_model=32,n_heads=2,batch_size=1"
    sizes = ["--memory", "2MiB", "--depths", "1,2", "--seq-lens", "64", "--pe", "none"]
    assert main(["frontier", fields, *sizes, "--out", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "longest T at each L within 2 MiB" in shown
    assert (tmp_path / "frontier.png").stat().st_size > 5000
    assert main(["predict", "sequ=3"]) == 4
    assert "unknown field 'sequ'; choose from vocab_size" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["frontier", "--memory", "lots"])
    assert "it must be a positive number of bytes such as 800MiB or 6.5GiB, not 'lots'" in capsys.readouterr().err
