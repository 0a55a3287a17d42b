"""The suite as its users run it, in processes of its own."""

import configparser
import copy
import gc
import json
import math
import os
import re
import subprocess
import sys
import weakref
from dataclasses import dataclass, fields

import pytest

from attnlib.cases.case import FOUNDING, Case, unsupported
from attnlib.cases.grids import lengths, product, slices
from attnlib.cases.settings import PRESETS, Settings
from attnlib.cases.workload import Workload, build
from attnlib.measure.cores import default_threads, usable_cores
from attnlib.measure.device import Device
from attnlib.measure.sampling import log_ratio
from attnlib.runs.schema import problems
from attnlib.tests import ROOT


@pytest.fixture(name="trained", scope="module")
def _trained(sessions, tmp_path_factory):
    """Return what a session of train steps, backward passes and encodings printed, and the run that it saved."""
    folder = tmp_path_factory.mktemp("trained")
    tests = ["bench/test_train_step.py", "bench/test_backward.py", "bench/test_encodings.py"]
    done = sessions("--pe=none,learned", "--benchmark-autosave", folder=folder, tests=tests)
    assert done.code == 0, done.out
    (path,) = folder.rglob("*.json")
    return done.out, json.loads(path.read_text())


def test_a_run_is_saved_with_everything(trained):
    """A run leaves one file that keeps the contract, a row a case, and shows time, interval and memory."""
    out, run = trained

    assert problems(run) == []
    assert sorted(row["status"] for row in run["attnlib"]["cases"]) == ["ok"] * 5 + ["unsupported"]
    assert run["machine_info"]["attnlib"]["flush_subnormals"] is True
    assert "train_step[seq_len=8-depth=1-pe=learned]" in out
    assert {b["options"]["timer"] for b in run["benchmarks"]} == {"device_clock"}
    for time in (b["extra_info"]["time"] for b in run["benchmarks"]):
        assert len(time["canary_s"]) == 2  # one visit
        assert isinstance(time["disturbed"], list)
        assert all(left["samples"] for visit in time["visits"] for left in visit["left"])
    assert len(run["attnlib"]["canary"]) >= 10 + 2 * 2


def test_a_run_at_another_speed_says_so(trained, sessions, tmp_path):
    """Its end names the kinds of work that took longer than in the saved runs, of which it is none."""
    run = copy.deepcopy(trained[1])
    for reading in run["attnlib"]["canary"]:
        reading["kinds"] = {kind: seconds / 9 for kind, seconds in reading["kinds"].items()}
    run["attnlib"]["canary"] *= 10  # a few readings are not the machine's speed
    apart = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}  # from the committed runs
    run["machine_info"]["attnlib"]["environment"] |= apart
    (tmp_path / "machine").mkdir()
    (tmp_path / "machine" / "0001_before.json").write_text(json.dumps(run))
    options = ["-k", "none", "--visits", "30", "--benchmark-autosave"]
    out = sessions(*options, folder=tmp_path, tests=["bench/test_forward.py"], environment=apart).out

    start = r"^attnlib: the machine had another speed than in 1 saved run: products took \d+\.\d\d times as long, "
    assert re.search(start, out, re.MULTILINE), out


def times_in(run):
    assert problems(run) == []
    return [(b, b["extra_info"]["time"]) for b in run["benchmarks"]]


def times_of(folder):
    (path,) = folder.rglob("*.json")
    return times_in(json.loads(path.read_text()))


def test_rounds_lie_beside_those_of_the_reference(trained):
    """Each case has as many rounds of its reference, whole blocks of them, and the ratio of these very samples."""
    found = times_in(trained[1])

    assert len(found) == 5
    for benchmark, time in found:
        if benchmark["extra_info"]["case"]["phase"] == "encoding":
            assert "over_reference" not in time
            continue
        over, samples = time["over_reference"], benchmark["stats"]["data"]
        assert over["reference"] == {"pe": "none"}
        assert len(time["reference_s"]) == len(samples) == 2 * over["blocks"] * time["each"] >= 4
        ratios = [case / reference for case, reference in zip(samples, time["reference_s"], strict=True)]
        assert min(ratios) <= over["value"] <= max(ratios)
        if len(samples) == time["visits"][0]["rounds"] and not time["visits"][0]["disturbed"]:
            assert over["value"] == pytest.approx(math.exp(log_ratio(time["reference_s"], samples)))
        assert over["low"] <= over["value"] <= over["high"]


def test_the_first_line_says_what_is_measured_with(sessions, usual, tmp_path):
    """A core stays free and freed memory is kept; both are saved, and options change both."""
    said, run = usual
    other = sessions("--heap=system", "--threads=all", "--benchmark-autosave", folder=tmp_path).out
    cases = [found[0][0]["extra_info"]["case"] for found in (times_in(run), times_of(tmp_path))]

    assert f"cpu, {default_threads(usable_cores())} thread" in said
    assert "freed memory is kept" in said
    assert "freed memory may be given back" in other
    assert [case["heap"] for case in cases] == ["kept", "system"]


def test_a_run_saved_elsewhere_is_shown_by_its_file(usual):
    """Commands would show another run, or none, where they do not look into the folder that it was saved in."""
    path, shown = re.search(r"saved in (\S+); look at it with: attnlib costs (\S+)", usual[0]).groups()

    assert path == shown


def test_a_heap_that_cannot_be_kept_is_said(sessions, tmp_path):
    """The user's own setting stays, the case says so, and asking for both at once is refused."""
    environment = {"MALLOC_ARENA_MAX": "2"}
    done = sessions("--benchmark-autosave", folder=tmp_path, environment=environment)
    refused = sessions("--heap=kept", folder=tmp_path, environment=environment)

    assert "freed memory may be given back: MALLOC_ARENA_MAX is set" in done.out
    assert times_of(tmp_path)[0][0]["extra_info"]["case"]["heap"] == "system"
    assert refused.code == 4
    assert "--heap kept is not possible: MALLOC_ARENA_MAX is set; choose system" in refused.out


def test_the_answer_is_the_last_thing_on_the_screen(sessions, trained, tmp_path):
    """A table a phase, the noise floor, and what time went into; pytest-benchmark's own only where it is asked for."""
    out, _ = trained

    assert "train_step: time over that of none" in out
    assert "noise floor of train_step: none over itself: " in out
    assert "Legend:" not in out
    asked = sessions("--benchmark-columns=median", folder=tmp_path, tests=["bench/test_forward.py"])
    assert "Legend:" in asked.out


def test_another_reference_or_none(sessions, tmp_path):
    """Any field may differ; a case that is measured alone says why, and tables have its own time."""
    tests = ["bench/test_train_step.py"]
    done = sessions(
        "--reference=attention=math", "--pe=none", "--benchmark-autosave", folder=tmp_path / "a", tests=tests
    )
    ((_, time),) = times_of(tmp_path / "a")
    assert time["over_reference"]["reference"] == {"attention": "math"}
    assert "x attention=math" in done.out
    assert "train_step: time over that of attention=math" in done.out
    assert "noise floor" not in done.out

    done = sessions("--reference=off", "--pe=none", "--benchmark-autosave", folder=tmp_path / "b", tests=tests)
    ((_, time),) = times_of(tmp_path / "b")
    assert time["over_reference"] == {"value": None, "reason": "not asked for"}
    assert time["reference_s"] is None
    assert "alone: not asked for" in done.out
    assert "time over" not in done.out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--preset", "huge"], "unknown preset 'huge'; choose from auto, smoke, laptop, gpu, switches, seed"),
        (["--pe", "none,ropee"], "unknown pe 'ropee'; choose from none, sinusoidal, learned, rotary"),
        (["--block", "x"], "unknown block 'x'; choose from plain, residual, post_ln, pre_ln"),
        (["--dtype", "int8"], "unknown dtype 'int8'; choose from float32"),
        (["--device", "tpu"], "no device 'tpu' on this machine; choose from auto, cpu"),
        (["--seq-lens", "64,0"], "--seq-lens takes positive integers separated by commas, not '64,0'"),
        (["--depths", "-3"], "--depths takes positive integers separated by commas, not '-3'"),
        (["--batch-size", "2.5"], "--batch-size takes positive integers separated by commas, not '2.5'"),
        (["--heads", "3"], "n_heads=3 does not divide d_model=64; give head_dim"),
        (["--budget", "nan"], "--budget takes a positive number, not 'nan'"),
    ],
)
def test_bad_options_are_refused(options, message):
    """A bad value is named with the choices, before anything is measured."""
    name, value = options
    given = {"preset": "laptop", name.removeprefix("--").replace("-", "_"): value}
    with pytest.raises(ValueError, match=re.escape(message)):
        Settings.from_options(given)


def test_bad_options_end_the_session(sessions, tmp_path):
    """One line, exit code 4, nothing written."""
    done = sessions("--preset=huge", "--benchmark-autosave", folder=tmp_path / "runs")

    assert done.code == 4
    said = "ERROR: unknown preset 'huge'; choose from auto, smoke, laptop, gpu, switches, seed"
    said += "; attnlib list says what they are"
    assert done.out.strip() == said
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("option", ["--benchmark-min-rounds=3", "--benchmark-warmup=on", "--benchmark-timer=time.time"])
def test_calibration_options_are_refused(sessions, tmp_path, option):
    """An option of pytest-benchmark that would do nothing here is one line and exit code 4."""
    done = sessions(option, folder=tmp_path / "runs")

    assert done.code == 4
    assert f"ERROR: {option.partition('=')[0]} has no effect here; use --budget and --precision" in done.out


def test_an_unwritable_results_folder_is_refused_at_once(sessions, tmp_path):
    """A results folder that cannot be written to is found before measuring."""
    (tmp_path / "file").write_text("")
    done = sessions("--benchmark-autosave", folder=tmp_path / "file" / "runs")

    assert done.code == 4
    assert "cannot save runs in" in done.out


def test_a_wrong_case_is_an_error_and_has_no_time(sessions, tmp_path):
    """A workload that fails its gate fails the session, and is a row with status error but no timing."""
    path = tmp_path / "run.json"
    done = sessions(f"--benchmark-json={path}", folder=tmp_path, fault="wrong", tests=["bench/test_forward.py"])
    run = json.loads(path.read_text())

    assert done.code == 1
    assert "2 error" in done.out
    assert problems(run) == []
    assert run["benchmarks"] == []
    assert {(row["status"], row["reason"]) for row in run["attnlib"]["cases"]} == {
        ("error", "AssertionError: its reference: logits are not finite")
    }


def settings(**options):
    return Settings.from_options({"preset": "laptop", "device": "cpu"} | options)


def test_grids():
    """The product has every cell; the slices cross in the middle without repeating it."""
    chosen = settings(seq_lens="8,16,32", depths="1,2,3", pe="none,learned")

    assert len(product(chosen)) == 18
    assert len(slices(chosen)) == 2 * (3 + 3 - 1)
    assert len(lengths(chosen)) == 6
    assert {row["depth"] for row in slices(chosen) if row["seq_len"] != 16} == {2}


def test_a_presets_own_axes_have_no_cells_that_take_long():
    """Those of more than its T L are left out, and come back with lengths or depths of one's own."""
    default = product(settings(preset="laptop", pe="none"))
    asked = product(settings(preset="laptop", pe="none", seq_lens="1024"))

    assert max(row["seq_len"] * row["depth"] for row in default) == PRESETS["laptop"].most
    assert {row["seq_len"] for row in default} == set(PRESETS["laptop"].seq_lens)
    assert {row["depth"] for row in asked} == set(PRESETS["laptop"].depths)
    assert max(row["seq_len"] * row["depth"] for row in slices(settings(preset="laptop"))) == 2048
    crossing = settings(preset="laptop", seq_lens="2048", depths="4")
    assert [(row["seq_len"], row["depth"]) for row in slices(crossing) if row["pe"] == "none"] == [(2048, 4)]


def test_presets_build_valid_cases():
    """Every preset's widths make a valid case."""
    for preset in PRESETS.values():
        assert Case(**preset.case).head_width > 0


@pytest.mark.parametrize(
    ("fields", "pinned"),
    [
        ({}, "911039b60ddf"),
        ({"seq_len": 512, "depth": 8, "pe": "rotary", "phase": "forward"}, "12f177ce1633"),
        ({"d_model": 512, "n_heads": 8, "head_dim": 512, "dtype": "bfloat16", "device": "cuda:1"}, "77f462f28125"),
        ({"seed": 3}, "b530fafb15cb"),
    ],
)
def test_case_ids_are_pinned(fields, pinned):
    """Ids of saved runs stay what they are, whatever fields cases have one day; a field's new value is a new case."""
    assert Case(**fields).id == pinned


def test_a_later_field_changes_no_id():
    """A field that is not among the founding ones counts only where it differs from its default."""

    @dataclass(frozen=True)
    class Later(Case):
        colour: str = "red"

    later = {"seed", "compile", "data", "n_train", "steps", "learning_rate", "cache", "launch", "matmul_precision"}
    later |= {"heap", "model", "norm", "kv_heads", "qk_norm", "window", "softmax", "gate", "value_residual"}
    later |= {"activation", "depth_scale", "train_length", "test_length", "until_loss"}
    assert set(FOUNDING) | later == {field.name for field in fields(Case)}
    assert Later().id == Case().id == Later(colour="red").id
    assert Later(colour="blue").id != Case().id
    assert Case(device="cuda:0").id == Case(device="cuda:1").id


def test_every_committed_id_is_its_cases():
    """The reference runs are of the cases that this code would measure."""
    for path in sorted((ROOT / "results" / "reference").glob("*.json")):
        rows = json.loads(path.read_text())["attnlib"]["cases"]
        assert all(Case(**row["case"]).id == row["case_id"] for row in rows)


def test_a_case_is_planned_once(sessions, tmp_path):
    """Two tests that would measure the same case are refused by name, before anything is measured."""
    options = ["--init=linear", "--seq-lens=64", "--depths=64", "--pe=none", "--d-model=64", "--benchmark-autosave"]
    tests = ["bench/test_backward.py", "bench/test_denormals.py"]
    done = sessions(*options, folder=tmp_path, tests=tests)

    assert done.code == 4
    assert "bench/test_backward.py::test_backward[seq_len=64-depth=64-pe=none]" in done.out
    assert "bench/test_denormals.py::test_denormals[depth=64-denormals=flush]" in done.out
    assert "measure the same case; leave one out with --deselect or -k" in done.out
    assert not list(tmp_path.rglob("*.json"))


def test_tokens_per_batch_keeps_the_tokens():
    """B = tokens // T, at least 1."""
    chosen = settings(tokens_per_batch="1024")

    assert [chosen.case(seq_len=T).batch_size for T in (64, 512, 4096)] == [16, 2, 1]


def test_unsupported_cases_have_a_reason():
    """An encoding without a cost of its own, or that refuses the head width, is no case; others are."""
    assert unsupported(Case(phase="encoding", pe="none")) == "none adds nothing that could be timed alone"
    assert "the head width must be even, not 15" in unsupported(Case(pe="rotary", d_model=60))
    assert unsupported(Case(pe="alibi", d_model=60)) is None


@pytest.mark.parametrize("phase", ["forward", "backward", "train_step", "encoding", "epoch"])
def test_workloads_are_freed_at_once(phase):
    """No reference cycle keeps a model alive until a collection, which would weigh on the next case."""
    build(Case(seq_len=8))  # torch's first optimiser of a process keeps the frames that it was made in
    gc.disable()
    try:
        work = build(Case(phase=phase, pe="learned", seq_len=8), num_texts=4)
        work.check()
        freed = weakref.ref(work.model)
        del work
        assert freed() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("phase", ["forward", "backward", "train_step", "encoding"])
def test_memory_is_the_same_every_time(phase):
    """Three fresh workloads weigh the same to the byte."""
    peaks = []
    for _ in range(3):
        work = build(Case(phase=phase, pe="learned", seq_len=16))
        work.check()
        peaks.append(work.weigh(Device())["allocated_peak"]["value"])

    assert len(set(peaks)) == 1


def test_fused_attention_holds_no_scores():
    """At T=1024, D=64 the math backend's forward pass needs over five times the fused one's bytes."""
    fused, written = (Workload(Case(phase="forward", seq_len=1024, attention=name)) for name in ("sdpa", "math"))
    peaks = [work.weigh(Device())["allocated_peak"]["value"] for work in (fused, written)]

    assert peaks[1] > 5 * peaks[0]
    assert peaks[1] > 2 * 4 * 1024**2 * 4  # [B, H, T, T] in float32


def test_tox_passes_device_choices_on():
    """CUDA_VISIBLE_DEVICES and the like reach every environment; otherwise another card would be measured."""
    tox = configparser.ConfigParser()
    tox.read(ROOT / "tox.ini")
    passed = tox["testenv"]["pass_env"].split()

    assert {"CUDA_*", "NVIDIA_*", "OMP_*", "MKL_*", "KMP_*", "GOMP_*", "PYTORCH_*", "XDG_CACHE_HOME"} <= set(passed)
    assert {"PYTEST_ADDOPTS", "ATEN_CPU_CAPABILITY", "ONEDNN_*", "LD_PRELOAD", "MALLOC_*"} <= set(passed)
    assert {"HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"} <= set(passed)
    assert not any("pass_env" in tox[name] for name in tox.sections() if name != "testenv")


def test_benchmark_cli_loads_the_plugin_without_torch():
    """pytest-benchmark's own command line imports conftest.py and what that names, and no torch with it."""
    code = (
        "import sys, conftest; [__import__(name) for name in conftest.pytest_plugins]; sys.exit('torch' in sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=False).returncode == 0


@pytest.mark.faults  # with the long tests
def test_tests_are_found_without_the_current_folder():
    """Those that import ``bench`` and ``plots.py`` too, where Python leaves the current folder out of its path."""
    tests = ["attnlib/tests/gradients/test_checks.py", "attnlib/tests/show/test_tables.py"]
    command = [sys.executable, "-m", "pytest", *tests, "--import-mode=importlib", "--collect-only", "-q"]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONSAFEPATH": "1"}, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout
