"""What encodings and probing add to a step, rounds interleaved. Run it by name; it asserts nothing about time."""

import pytest

from attnlib.model.positional import POSITIONAL
from attnlib.theory.probes import Recorder
from bench.cases import Case
from bench.workload import Workload

WIDTH = {"seq_len": 512, "d_model": 512, "n_heads": 8, "batch_size": 2}


@pytest.mark.parametrize("pe", [pe for pe in POSITIONAL if pe != "none"])
def test_encoding_ratio(pe, ratio, device):
    """Times a train step with each encoding over that of none: T=512, D=512, L=4."""
    fields = WIDTH | {"depth": 4, "device": str(device.torch_device)}
    works = [Workload(Case(pe=name, **fields)) for name in (pe, "none")]
    ratio(f"{pe} / none, train step T=512 D=512 L=4:", works[0].train_step, works[1].train_step)


def test_probing_ratio(ratio, device):
    """Times a forward and backward pass under the recorder, report included, over a plain one: T=512, D=512, L=8."""
    work = Workload(Case(depth=8, device=str(device.torch_device), **WIDTH))

    def plain():
        work.build_graph()
        work.backward()

    def probed():
        with Recorder(work.model) as seen:
            plain()
        seen.report()

    ratio("probed / plain, forward and backward T=512 D=512 L=8:", probed, plain)
