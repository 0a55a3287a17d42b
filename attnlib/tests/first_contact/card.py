"""The card as the steps see it; ``attnlib.tests.first_contact.fake`` has one that is not there."""

import subprocess
import sys
import time

import torch
import torch.nn.functional as F

from attnlib.cases.case import Case
from attnlib.cases.workload import Workload
from attnlib.measure import clock, nvml
from attnlib.measure.ceilings import Ceilings
from attnlib.measure.device import open_device
from attnlib.measure.memory import available_bytes, live_bytes
from attnlib.tests import ROOT

WIDTHS = {"d_model": 512, "n_heads": 8, "batch_size": 1, "dtype": "bfloat16"}


class Card:
    """The card that torch calls ``cuda``."""

    name = "cuda"  # the device of tensors and cases

    def __init__(self):
        self.device = open_device("cuda")
        clock.bind(self.device)

    def case(self, **fields):
        """Return a case of the usual widths on the card."""
        return Case(**WIDTHS | {"device": self.name} | fields)

    def workload(self, **fields):
        """Return the workload of such a case."""
        return Workload(self.case(**fields))

    def tensor(self, *sizes, dtype=torch.bfloat16):
        """Return random numbers on the card."""
        return torch.randn(*sizes, device=self.name, dtype=dtype)

    def attend(self):
        """Run attention once, on small tensors."""
        x = self.tensor(1, 1, 64, 64)
        F.scaled_dot_product_attention(x, x, x)
        self.device.synchronize()

    def small_work(self):
        """Return a callable that queues one short kernel."""
        x = self.tensor(1)
        return lambda: x.add_(1)

    def waiting_step(self):
        """Return a step that waits for its result, which no graph can hold."""
        x = self.tensor(1)
        return lambda: x.sum().item()

    def forward(self):
        """Return a matrix and its square, the first product of this process."""
        x = self.tensor(256, 256).requires_grad_()
        return x, x @ x

    def backward(self, y):
        """Go back through it, in a thread of autograd's."""
        y.sum().backward()

    def beside(self, tensors):
        """Return the bytes that the allocator has given out beside those of tensors."""
        return self.allocated() - live_bytes(tensors)

    def allocated(self):
        """Return the bytes that torch's allocator has given out."""
        self.device.synchronize()
        return torch.cuda.memory_allocated(self.device.torch_device)

    def clear_workspaces(self):
        """Free the workspaces of cuBLAS."""
        torch._C._cuda_clearCublasWorkspaces()

    def free(self):
        """Return the bytes that can still be allocated."""
        return available_bytes(self.device)

    def rates(self):
        """Return the ceilings as a session reads them."""
        return Ceilings(self.device, torch.bfloat16).listen()

    def copy(self, size):
        """Return a step that copies ``size`` bytes."""
        source, target = (torch.ones(size, dtype=torch.uint8, device=self.name) for _ in range(2))
        return lambda: target.copy_(source)

    def product(self, size):
        """Return a step that multiplies two matrices of ``[size, size]``."""
        a, b = (self.tensor(size, size) for _ in range(2))
        out = torch.empty_like(a)
        return lambda: torch.mm(a, b, out=out)

    def event_seconds(self, step, steps):
        """Return the seconds of a step between events around several, after an untimed one."""
        step()
        start = self.device.mark()
        for _ in range(steps):
            step()
        end = self.device.mark()
        self.device.synchronize()
        return self.device.between(start, end) / steps

    def work(self, seconds):
        """Keep the card at products for some seconds."""
        step, until = self.product(4096), time.perf_counter() + seconds
        while time.perf_counter() < until:
            for _ in range(20):
                step()
            self.device.synchronize()

    def sleep(self, seconds):
        """Let the card rest."""
        time.sleep(seconds)

    def nvml(self):
        """Open NVML's view of the card, a context manager."""
        return nvml.card(self.device.describe()["uuid"])

    def pytest(self, *words):
        """Run pytest in the checkout; what it prints goes into the step's log. Return its exit code."""
        return subprocess.run([sys.executable, "-m", "pytest", *words], cwd=ROOT, check=False).returncode
