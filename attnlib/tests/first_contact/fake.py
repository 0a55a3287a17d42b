"""A card that is not there: what ``fake_cuda`` fakes of its time, and here its memory, NVML and rates.

Steps run small on the CPU, so that their code is the real one, and queue work on the fake.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from attnlib.cases.workload import Workload
from attnlib.measure import nvml
from attnlib.measure.ceilings import Rates
from attnlib.measure.device import Device, reading
from attnlib.tests.first_contact.card import Card
from attnlib.tests.first_contact.sessions import NEEDED
from attnlib.tests.measure import fake_cuda

SMALL = {"d_model": 16, "n_heads": 2, "batch_size": 1, "dtype": "float32"}
SHORTER = 128  # times
A_LAYER = {"rotary": 50}  # launches; 25 of the others
WORKSPACE = 32 * 2**20  # of cuBLAS, for each thread that multiplies
BYTES_PER_S, FLOPS_PER_S = 4e12, 7e14
GPU_TEST = """
def test_passes():
    pass
"""


class FakeWorkload(Workload):
    """A small workload whose step is work of the fake too.

    Args:
        case: of the CPU, small.
        card: the fake.
        pieces: launches of a step.
        seconds: that the fake works on it.
        flex: whether it stands in for a compiled one.
    """

    def __init__(self, case, card, pieces, seconds, flex):
        self.card, self.pieces, self.seconds, self.flex = card, pieces, seconds, flex
        super().__init__(case)

    @property
    def device(self):
        """The fake."""
        return self.card.device

    @property
    def step(self):
        """The step, or the replay of its graph."""
        return self.replay or self.run

    def run(self):
        """Run it on the CPU and queue its work."""
        getattr(self, self.case.phase)()
        for _ in range(self.pieces):
            self.card.fake.launch(self.seconds / self.pieces)

    def compiled(self):
        """Counts as of a compiled step."""
        return {"graphs": 2, "graph_breaks": 0, "recompiles": 0, "eager": self.card.uncompiled} if self.flex else None

    def weigh(self, device):
        """The peak on the CPU, which is what is predicted for it."""
        return super().weigh(Device())


class FakeCard(Card):
    """The fake; what it is made with are the ways in which a card may differ from what we assume.

    Args:
        monkeypatch: puts it in place of torch.cuda, of the host's clock and of NVML.
        queue: launches that a stream takes.
        workspace: bytes of a thread's workspace of cuBLAS.
        ceiling: what a session's ceilings are of the rates between events.
        seen_by_nvml: whether NVML's list of processes has this one.
        uncompiled: pieces of a compiled step that were left uncompiled.
        tests: source of the tests that stand in for those of a card.
    """

    name = "cpu"

    def __init__(
        self,
        monkeypatch,
        *,
        queue=1024,
        workspace=WORKSPACE,
        ceiling=1.0,
        seen_by_nvml=True,
        uncompiled=0,
        tests=GPU_TEST,
    ):
        monkeypatch.setattr(fake_cuda, "QUEUE", queue)
        self.fake, self.device = fake_cuda.open_fake(monkeypatch)
        monkeypatch.setattr(nvml, "card", lambda uuid: FakeNvml(self.fake, seen_by_nvml))
        self.workspace, self.ceiling, self.uncompiled = workspace, ceiling, uncompiled
        self.tests = tests
        self.threads = 0  # with a workspace

    def case(self, **fields):
        """A small case of the CPU."""
        small = fields | SMALL | {"seq_len": max(8, fields["seq_len"] // SHORTER), "depth": min(fields["depth"], 4)}
        return super().case(**small)

    def workload(self, **fields):
        """A small workload that takes as many launches as the large one."""
        pieces = A_LAYER.get(fields["pe"], 25) * fields["depth"]
        flex = fields.get("attention") == "flex"
        case = self.case(**fields | ({"attention": "sdpa"} if flex else {}))
        return FakeWorkload(case, self, pieces, pieces * 2e-6 * fields["seq_len"] / 512, flex)

    def tensor(self, *sizes, dtype=torch.float32):
        """Random numbers on the CPU."""
        return super().tensor(*sizes, dtype=torch.float32)

    def forward(self):
        """A product, whose thread takes a workspace."""
        self.threads = 1
        return super().forward()

    def backward(self, y):
        """Its backward pass, in a thread of its own."""
        self.threads = 2
        super().backward(y)

    def allocated(self):
        """Return the bytes that belong to no tensor."""
        return self.threads * self.workspace

    def beside(self, tensors):
        """The same, since tensors are on the CPU."""
        return self.allocated()

    def clear_workspaces(self):
        """Both are gone."""
        self.threads = 0

    def small_work(self):
        """A microsecond of work, which can be captured."""

        def step():
            self.fake.refuses = False
            self.fake.launch(1e-6)

        return step

    def waiting_step(self):
        """A step whose capture is refused."""
        self.fake.refuses = True
        return lambda: None

    def free(self):
        """Return as many bytes as a card has."""
        return 2**36

    def rates(self):
        """The fake's own, as far as the ceilings find them."""
        bytes_per_s = self.ceiling * BYTES_PER_S
        return Rates(self.ceiling * FLOPS_PER_S, ((2**13, 1e-6), (2**34, 2**34 / bytes_per_s)), 1e-5)

    def copy(self, size):
        """Work of a copy's length."""
        return lambda: self.fake.launch(2 * size / BYTES_PER_S)

    def product(self, size):
        """Work of a product's length."""
        return lambda: self.fake.launch(2 * size**3 / FLOPS_PER_S)

    def sleep(self, seconds):
        """Only the fake's clock goes on."""
        self.fake.host += seconds

    def pytest(self, *words):
        """The tests of a card are others here, and a session is one of the CPU, as small as can be."""
        if not any(word.startswith("bench/") for word in words):
            (report,) = [word for word in words if word.startswith("--junitxml=")]
            path = Path(report.partition("=")[2]).with_name("test_fake.py")
            path.write_text(self.tests)
            plain = ("-q", "-p", "no:cacheprovider", "-p", "no:attnlib", "-c", os.devnull, f"--rootdir={path.parent}")
            return subprocess.run([sys.executable, "-m", "pytest", str(path), *plain, report], check=False).returncode
        small = ("--preset", "smoke", "--seq-lens", "8", "--depths", "1", "--budget", "0.02", "--visits", "1")
        code = super().pytest(*words, *small)
        (saved,) = [Path(word.partition("=")[2]) for word in words if word.startswith("--benchmark-json=")]
        fill(saved)
        return code


def fill(saved):
    """Write into a run of the CPU what only a card reads; what else this machine does is no matter."""
    run = json.loads(saved.read_text())
    for row in run["benchmarks"]:
        for part, key in NEEDED.values():
            row["extra_info"][part][key] |= {"value": 1.0}
        row["extra_info"]["time"]["disturbed"] = []
    saved.write_text(json.dumps(run))


class FakeNvml(nvml.Card):
    """NVML's view of the fake, a context manager as ``nvml.card`` is."""

    def __init__(self, fake, listed):
        super().__init__(self, self)
        self.fake, self.listed = fake, listed

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def memory(self):
        """Bytes of nobody in particular."""
        reason = None if self.listed else "the driver does not list this process"
        return {"nvml_process": reading(2**30 if self.listed else None, "fake", reason)}

    def state(self):
        """The fake's clock, and a card that is well."""
        names = ("max_sm_mhz", "memory_mhz", "temperature_c", "power_w", "other_processes")
        state = {name: reading(0, "fake") for name in names} | {"event_reasons": reading([], "fake")}
        return state | {"sm_mhz": reading(int(self.fake.hz / 1e6), "fake")}

    def joules(self):
        """Some."""
        return reading(1.0, "fake")

    def identity(self):
        """No driver."""
        return {"driver": None, "mig": False}
