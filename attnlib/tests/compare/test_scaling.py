"""Scaling laws on synthetic times of known coefficients, and their tables and figures."""

import json
from dataclasses import asdict

import numpy as np
import pytest

import plots
from attnlib.cases.case import Case
from attnlib.commands.__main__ import main
from attnlib.compare.cells import Cells
from attnlib.compare.scaling import DEPTH, LENGTH, fit, nonnegative, slopes
from attnlib.runs.load import load
from attnlib.show.scaling import by_depth, by_length
from attnlib.tests.runs.examples import row_of, saved

SIZES = [64 * 2**i for i in range(7)]  # 64 to 4096
TRUTH = {"a": 1e-4, "b": 2e-7, "c": 1e-9}


def law(sizes, a, b, c):
    n = np.asarray(sizes, dtype=float)
    return a + b * n + c * n**2


def drawn(seed, sizes=SIZES, runs=5, noise=0.03, **truth):
    """Run medians with log-normal noise, ``[runs, sizes]``."""
    rng = np.random.default_rng(seed)
    return law(sizes, **TRUTH | truth) * np.exp(noise * rng.standard_normal((runs, len(sizes))))


def test_exact_times_give_exact_coefficients():
    """Without noise the coefficients, their shares and the crossover are the true ones."""
    found = fit(SIZES, drawn(0, noise=0.0), LENGTH)

    assert [found.coefficient(p) for p in LENGTH] == pytest.approx(list(TRUTH.values()))
    assert found.share(2)[0] == pytest.approx(1e-9 * 4096**2 / law([4096], **TRUTH)[0])
    assert found.crossover()[0] == pytest.approx(200.0)
    assert found.at(8192) == pytest.approx(law([8192], **TRUTH)[0])


@pytest.mark.parametrize("runs", [1, 5])
def test_noisy_times_give_the_law(runs):
    """With 3 % noise c, and the time at twice the range, are within 10 % in at least 90 % of 200 tries."""
    fits = [fit(SIZES, drawn(seed, runs=runs), LENGTH) for seed in range(200)]
    near_c = sum(abs(f.coefficient(2) / TRUTH["c"] - 1) < 0.1 for f in fits)
    near_t = sum(abs(f.at(8192) / law([8192], **TRUTH)[0] - 1) < 0.1 for f in fits)

    assert near_c >= 180
    assert near_t >= 180


def fitted(count=100, powers=LENGTH, **options):
    return [fit(options.get("sizes", SIZES), drawn(seed, **options), powers) for seed in range(count)]


def test_a_quadratic_law_is_called_quadratic():
    """Five runs with 3 % noise: always."""
    assert {f.quadratic for f in fitted()} == {"quadratic"}


def test_a_linear_law_has_no_quadratic_term():
    """Without c: called quadratic in at most 2.5 %, and a share of at most 5 % in at least 95 %."""
    found = fitted(200, a=1e-4, b=1e-6, c=0.0)

    assert sum(f.quadratic == "quadratic" for f in found) <= 5
    assert sum(f.share(2)[0] <= 0.05 for f in found) >= 190


def test_a_launch_floor_hides_the_law():
    """If 90 % of the time at the largest size is a constant, the rest is not identifiable in at least 80 %."""
    rest = 0.1 * 1e-2 / 2
    words = [f.quadratic for f in fitted(200, a=0.9e-2, b=rest / 4096, c=rest / 4096**2)]

    assert words.count("not identifiable") >= 160


@pytest.mark.parametrize("sizes", [[64, 128, 256, 512], [64, 128, 256, 512, 1000]])
def test_a_small_range_tells_nothing(sizes):
    """Four sizes, or less than sixteen times the smallest."""
    assert fit(sizes, drawn(0, sizes=sizes), LENGTH).quadratic == "range too small"


def test_one_run_has_no_interval():
    """Its coefficients stand without bounds, and no law is named."""
    found = fit(SIZES, drawn(0, runs=1), LENGTH)

    for value, low, high in (found.term(2), found.share(2), found.crossover()):
        assert low == value == high
    assert found.quadratic == "undecided: one run"
    assert fit([2, 8, 32], drawn(0, sizes=[2, 8, 32], runs=1), DEPTH).straight == "undecided: one run"


@pytest.mark.parametrize("runs", [5, 8])
def test_bootstrap_intervals_cover(runs):
    """The interval of c holds the true one in at least 90 % of 200 tries: 95 % is wished, of few runs."""
    found = [fit(SIZES, drawn(seed, runs=runs), LENGTH).term(2) for seed in range(200)]

    assert sum(low <= TRUTH["c"] <= high for _, low, high in found) >= 180


def test_depth_is_a_line_or_not():
    """Lines with 1 % noise are linear, a square is not, and 20 % noise cannot tell."""
    depths = [1, 2, 4, 8, 16, 32]

    def words(**options):
        return {f.straight for f in fitted(20, DEPTH, **{"sizes": depths, "a": 1e-3, "b": 1e-3, "c": 0.0} | options)}

    assert words(noise=0.01) == {"linear"}
    assert words(noise=0.01, c=1e-4) == {"not linear"}
    assert "linear" not in words(noise=0.2)
    assert words(sizes=[2, 4, 8]) == {"range too small"}


def test_coefficients_are_never_negative():
    """Times that fall with size leave a constant."""
    terms = nonnegative([1, 2, 4], np.array([3.0, 2.0, 1.0]), LENGTH)

    assert terms[0] > 0
    assert terms[1:].tolist() == [0.0, 0.0]


def test_local_slopes_of_powers():
    """n^1.5 has slope 1.5 everywhere, with an interval of nothing between equal runs."""
    times = np.tile(np.array(SIZES) ** 1.5, (3, 1))

    assert np.array(slopes(SIZES, times)) == pytest.approx(np.full((6, 3), 1.5))


LENGTHS, DEPTHS = (64, 128, 256, 512, 1024), (2, 8, 32)


@pytest.fixture(name="paths")
def _paths(tmp_path):
    """Five runs of t = L (1e-3 + 1e-6 T + 1e-8 T^2) with 1 % noise, FLOPs 4 L (128 T + T^2)."""
    paths = []
    for seed in range(5):
        rng, run = np.random.default_rng(seed), saved()
        cases = [Case(seq_len=T, depth=L) for T in LENGTHS for L in DEPTHS]
        run["attnlib"]["cases"] = [row_of(case) for case in cases]
        template = run["benchmarks"][0]["extra_info"]
        run["benchmarks"] = []
        for c in cases:
            seconds = c.depth * (1e-3 + 1e-6 * c.seq_len + 1e-8 * c.seq_len**2) * np.exp(0.01 * rng.standard_normal())
            cost = {"flops": 4 * c.depth * (128 * c.seq_len + c.seq_len**2), "params": 1}
            info = template | {"case": asdict(c), "case_id": c.id, "cost": cost}
            run["benchmarks"].append(
                {"fullname": f"test_train_step[{c.id}]", "extra_info": info, "stats": {"data": [float(seconds)]}}
            )
        paths.append(tmp_path / f"{seed}.json")
        paths[-1].write_text(json.dumps(run))
    return paths


def test_tables_of_scaling(paths):
    """A row a depth and a row a length, with verdicts and the FLOP crossover, here at 128 tokens."""
    cells = Cells([load(path) for path in paths])
    lengths, depths = (make(cells, phase="train_step").rows for make in (by_length, by_depth))

    assert [row["case"] for row in lengths] == [f"train_step L={L} none" for L in DEPTHS]
    assert {row["in T"] for row in lengths} == {"quadratic"}
    assert [row["FLOPs"] for row in lengths] == [pytest.approx(128)] * len(DEPTHS)
    assert len(depths) == len(LENGTHS)
    assert {row["in L"] for row in depths} == {"linear"}


def test_a_run_that_lacks_a_size_is_left_out(paths):
    """A line is fitted on the runs that have all of its sizes."""
    run = json.loads(paths[0].read_text())
    run["attnlib"]["cases"][0] |= {"status": "oom", "reason": "too large"}
    paths[0].write_text(json.dumps(run))
    cells = Cells([load(path) for path in paths])

    assert by_length(cells, phase="train_step", depth=2).rows[0]["in T"] == "quadratic"


@pytest.mark.parametrize("options", [[], ["--markdown"]])
def test_scaling_on_the_terminal(paths, capsys, options):
    """Both tables, exit code 0."""
    assert main(["scaling", *map(str, paths), *options]) == 0
    out = capsys.readouterr().out
    assert "quadratic" in out
    assert "linear" in out


def test_scaling_of_nothing(paths, capsys):
    """An unknown phase is named with the choices; lines of two sizes are no lines."""
    assert main(["scaling", str(paths[0]), "--phase", "sideways"]) == 4
    assert "no phase 'sideways' in these runs; choose from train_step" in capsys.readouterr().err
    paths[0].write_text(json.dumps(saved()))
    assert main(["scaling", str(paths[0])]) == 4
    assert "no train_step at three lengths or three depths" in capsys.readouterr().err


def test_figures_of_scaling(paths, tmp_path):
    """Fits and slopes from ordinary runs; time per token only where the tokens a batch are fixed."""
    out = tmp_path / "figures"
    assert plots.main([*map(str, paths), "--only", "scaling", "time_per_token", "--out", str(out)]) == 0
    assert (out / "scaling.png").stat().st_size > 10_000
    assert not (out / "time_per_token.png").exists()

    for path in paths:
        run = json.loads(path.read_text())
        for row in (*run["attnlib"]["cases"], *(b["extra_info"] for b in run["benchmarks"])):
            row["case"]["batch_size"] = 2048 // row["case"]["seq_len"]
        path.write_text(json.dumps(run))
    assert plots.main([*map(str, paths), "--only", "time_per_token", "--out", str(out)]) == 0
    assert "2048 tokens a batch" in (out / "time_per_token.svg").read_text()
