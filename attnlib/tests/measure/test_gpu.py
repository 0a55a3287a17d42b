"""Facts that must hold on a real NVIDIA GPU; skipped where there is none: ``tox -e gpu``."""

import numpy as np
import pytest
import torch

from attnlib.cases.case import Case
from attnlib.cases.workload import Workload
from attnlib.measure import clock, memory, nvml
from attnlib.measure.device import Device, open_device
from attnlib.measure.energy import energy
from attnlib.measure.rounds import timed
from attnlib.predict.peak import prediction

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
SMALL = {"seq_len": 256, "d_model": 64, "n_heads": 4, "depth": 4, "device": "cuda", "dtype": "bfloat16"}


@pytest.fixture(name="device")
def _device():
    device = open_device("cuda")
    clock.bind(device)
    yield device
    clock.bind(Device())


def test_spins_of_known_length_lie_on_a_line(device):
    """Ten spins of ``torch.cuda._sleep``, 2 to 20 million cycles: host and device agree, on one straight line."""
    cycles = np.arange(1, 11) * 2_000_000
    torch.cuda._sleep(1000)
    with clock.device_times() as times:
        host = np.array([timed(lambda n=n: torch.cuda._sleep(int(n)), None, clock.device_clock) for n in cycles])

    assert np.corrcoef(host, cycles)[0, 1] ** 2 > 0.999
    assert (np.abs(host - np.array(times.rounds)) <= 0.01 * host + 50e-6).all()


def test_work_of_a_set_up_is_not_counted(device):
    """A spin that a set-up left in the queue is waited for before the clock starts."""
    torch.cuda._sleep(1000)
    alone = timed(lambda: torch.cuda._sleep(2_000_000), None, clock.device_clock)
    behind = timed(lambda: torch.cuda._sleep(2_000_000), lambda: torch.cuda._sleep(40_000_000), clock.device_clock)

    assert behind == pytest.approx(alone, rel=0.05, abs=50e-6)


def test_parts_are_no_larger_than_their_whole(device):
    """Allocated <= reserved <= process <= device, and the card is found by its UUID."""
    case = Case(**SMALL, phase="train_step")
    work = Workload(case)
    work.check()
    readings = work.weigh(device)

    assert readings["nvml_device_used"]["value"] > 0
    assert memory.out_of_order(readings) == []


@pytest.mark.parametrize("attention", ["math", "sdpa"])
def test_the_allocators_peak_is_as_predicted(device, attention):
    """Within a tenth, or 2 MiB, since workspaces of cuBLAS do not count; on the kernel that really ran."""
    case = Case(**SMALL | {"seq_len": 2048}, phase="train_step", attention=attention)
    work = Workload(case)
    work.check()
    peak = work.weigh(device)["allocated_peak"]["value"]

    assert peak == pytest.approx(prediction(case)["value"], rel=0.1, abs=2 * 2**20)


def test_out_of_memory_is_recovered_from(device):
    """A case that does not fit is refused as such, and the next allocation succeeds."""
    with pytest.raises(RuntimeError) as refused:
        torch.empty(2**50, dtype=torch.uint8, device="cuda")
    device.release()

    assert memory.is_out_of_memory(refused.value)
    assert float(torch.ones(4, device="cuda").sum()) == 4


@pytest.mark.parametrize("phase", ["forward", "train_step"])
def test_a_graph_does_what_the_step_does(device, phase):
    """Captured and replayed it passes the gate, launches once, and takes no longer than launching every kernel."""
    eager, replayed = Workload(Case(**SMALL, phase=phase)), Workload(Case(**SMALL, phase=phase, launch="graph"))
    eager.check()
    replayed.check()
    seconds = [np.median([timed(w.step, None, clock.device_clock) for _ in range(20)]) for w in (eager, replayed)]

    assert seconds[1] <= 1.1 * seconds[0]


def test_energy_is_a_number_or_a_reason(device):
    """Joules of a step from the counter, or why there are none; never 0."""
    work = Workload(Case(**SMALL, phase="train_step"))
    found = energy(device, work.step, work.check())["joules"]

    assert (found["value"] or 1.0) > 0
    assert (found["value"] is None) == (found["reason"] is not None)


def test_nvml_finds_the_card_of_torch(device):
    """Total memory by NVML and by torch are of the same size."""
    with nvml.card(device.describe()["uuid"]) as card:
        assert card.reason is None
        assert card.memory()["nvml_device_used"]["value"] < device.describe()["total_bytes"] * 1.1
