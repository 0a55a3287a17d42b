"""The preset ``gpu``: its estimated length, what its cells are bound by and need, and where it is refused."""

import configparser
import shlex

import pytest
import torch

from attnlib.tests import ROOT
from attnlib.tests.gpu_preset import FLOPS_PER_S, estimate, estimates, lines, not_bound, session_s, settings_of

MINUTES = 20
GPU = ("--preset", "gpu", "--device", "cpu")
NO_CARD = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")

pytestmark = pytest.mark.faults  # with the long tests: it predicts every case of the preset


@pytest.fixture(name="planned", scope="module")
def _planned():
    return estimates(settings_of())


def test_it_takes_at_most_twenty_minutes(planned):
    """By nominal rates of an H200, with its checks on the CPU."""
    assert 0 < session_s(planned) <= MINUTES * 60


def test_most_cells_are_not_bound_by_launches(planned):
    """More than half of all of them, and of each phase."""
    on_card = [one for one in planned if one.device_s is not None]

    assert {one.case.phase for one in on_card} == {"forward", "backward", "train_step", "encoding"}
    for phase in ("forward", "backward", "train_step", "encoding"):
        assert not_bound([one for one in on_card if one.case.phase == phase]) > 1 / 2
    assert not_bound(planned) > 1 / 2


def test_every_case_fits_a_card_of_80_gb(planned):
    """With its reference beside it and a quarter more than predicted; no case has 2^31 scores or more."""
    on_card = [one for one in planned if one.device_s is not None]

    assert max(1.25 * one.peak for one in on_card) < 80e9
    assert max(one.case.batch_size * one.case.n_heads * one.case.seq_len**2 for one in on_card) < 2**31


def test_lengths_and_depths_can_be_fitted(planned):
    """Every phase but that of an encoding alone has three lengths at one depth, and three depths at one length."""
    for phase in ("forward", "backward", "train_step"):
        cells = {
            (one.case.seq_len, one.case.depth)
            for one in planned
            if one.case.phase == phase and one.device_s is not None
        }
        for axis in (0, 1):
            found = [cell[1 - axis] for cell in cells]
            assert max(map(found.count, found)) >= 3


def test_the_estimate_follows_its_rates():
    """A step takes as long as its products where these are most, and as its launches where it is small."""
    settings = settings_of()
    large = estimate(settings.case(phase="forward", seq_len=4096, depth=8, pe="none", batch_size=64), settings)
    small = estimate(settings.case(phase="forward", seq_len=16, depth=2, pe="none", batch_size=1), settings)

    assert large.device_s > large.flops / FLOPS_PER_S > 0.8 * large.device_s
    assert not large.launch_bound
    assert small.launch_bound


def test_the_table_has_its_sum(planned):
    """A line a phase; their minutes and the start are those of the last line."""
    rows = [line.split("|") for line in list(lines(planned))[2:]]

    assert sum(int(row[2]) for row in rows[:-1]) == int(rows[-1][2]) == len(planned)
    assert float(rows[-1][3]) * 60 == pytest.approx(session_s(planned), abs=3)


def test_the_docs_say_what_it_takes(planned):
    """Minutes, and a share that is not bound by launches."""
    page = " ".join((ROOT / "docs" / "gpu.md").read_text().split())

    assert f"it takes about {session_s(planned) / 60:.0f} minutes, no case needs more than 80 GB" in page
    assert "nine of ten cells are not launch-bound" in page
    assert not_bound(planned) > 0.9


def test_it_is_refused_on_a_cpu(sessions, tmp_path):
    """One line with the choices, and exit code 4; nothing is written."""
    done = sessions(*GPU, "--benchmark-autosave", folder=tmp_path, tests=["bench/test_forward.py"], small=[])

    assert done.code == 4
    (line,) = [line for line in done.out.splitlines() if line.strip()]
    assert line.startswith("ERROR: --preset gpu is not measured on device cpu; choose --device cuda, or --preset smoke")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("option", "line"),
    [("--plan", "forward T=512 L=8 none"), ("--collect-only", "test_forward[seq_len=512-depth=8-pe=none]")],
)
def test_it_is_listed_on_a_cpu(sessions, tmp_path, option, line):
    """Its cases can be looked at without a card."""
    tests = ["bench/test_forward.py", "-k", "seq_len=512 and depth=8 and pe=none"]
    done = sessions(*GPU, option, folder=tmp_path, tests=tests, small=[])

    assert done.code == 0, done.out
    assert line in done.out


@NO_CARD
def test_tox_says_why_it_did_not_run(sessions, tmp_path):
    """Each command of its environment for a card ends with one line and exit code 4 where there is none."""
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    commands = tox["testenv:gpu"]["commands"].replace("{posargs}", "").strip().splitlines()

    for command in commands:
        program, *words = shlex.split(command)
        done = sessions(folder=tmp_path, tests=words, small=[])
        assert (program, done.code) == ("pytest", 4)
        assert done.out.strip().startswith("ERROR: no device 'cuda' on this machine; choose from")
        assert len(done.out.strip().splitlines()) == 1
