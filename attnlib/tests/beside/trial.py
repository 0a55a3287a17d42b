"""Measure how right ``beside`` is on this machine: ``python -m attnlib.tests.beside.trial [same] [more] [agree]``.

``same``: a function beside itself, 20 tests of 0.1 to 20 ms; ``more``: 5 % more of the same work; ``agree``: one of two
functions allocates 64 MiB a call, in three processes and both orders, beside a busy loop once. No test: it takes
minutes, and what it says is about a machine.
"""

import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

from attnlib.tests.beside.projects import pytest_in

SIZES = [32, 48, 56, 64, 72, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240, 256, 288, 320, 352]  # 0.1 to 20 ms
OPTIONS = [word for word in sys.argv[1:] if word.startswith("--")]  # of pytest
HEAD = """
import json, pathlib
import pytest, torch

def note(cost):
    with pathlib.Path("costs.jsonl").open("a") as file:
        file.write(json.dumps([*cost.ratio, cost.verdict, cost.seconds]) + "\\n")

def work(n, times):
    x = torch.randn(n, n)
    def run():
        for _ in range(times):
            x @ x
            x.relu()
    return run
"""
WORK = """
@pytest.mark.parametrize("n", {sizes})
def test_{name}(beside, n):
    note(beside(work(n, {call}), reference=work(n, {reference})))
"""
AGREE = """
x = torch.randn(512, 512)

def large():
    torch.ones(2**24).add_(1)

def small():
    for _ in range(12):
        x @ x

def test_agree(beside):
    note(beside({call}, reference={reference}))
"""


def costs(text):
    """Run these tests in a project of their own; return value, low, high, verdict and seconds of each."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_trial.py").write_text(HEAD + text)
        done = pytest_in(folder, "-q", *OPTIONS)
        found = Path(folder, "costs.jsonl")
        if not found.exists():
            raise SystemExit(done.stdout + done.stderr)
        return [json.loads(line) for line in found.read_text().splitlines()]


def same():
    """Print how far a function beside itself is from 1."""
    found = costs(WORK.format(sizes=SIZES, name="same", call=20, reference=20))
    rms = math.sqrt(sum(math.log(value) ** 2 for value, *_ in found) / len(found))
    held = sum(low <= 1 <= high for _, low, high, *_ in found)
    spans = [found[0][4], found[-1][4]]
    wide = sum(math.log(high / low) / 2 for _, low, high, *_ in found) / len(found)
    print(f"same: rms of the log ratio {rms:.2%}, {held} of {len(found)} hold 1, half-width {wide:.2%}, {spans} s")
    for row in found:
        print("  ", row)


def more():
    """Print how often 5 % more of the same work is slower."""
    found = costs(WORK.format(sizes=SIZES, name="more", call=21, reference=20))
    slower = sum(verdict == "slower" for *_, verdict, _ in found)
    print(f"more: {slower} of {len(found)} are slower")
    for row in found:
        print("  ", row)


def agree():
    """Print the intervals of three processes in both orders, the other order's turned round."""
    found = []
    for place in range(3):
        busy = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if place == 2 else None
        try:
            (own,) = costs(AGREE.format(call="large", reference="small"))
            (other,) = costs(AGREE.format(call="small", reference="large"))
        finally:
            if busy is not None:
                busy.kill()
                busy.wait()
        found += [own[:3], [1 / other[0], 1 / other[2], 1 / other[1]]]
    least, most = max(low for _, low, _ in found), min(high for *_, high in found)
    print(f"agree: {least <= most}")
    for row in found:
        print("  ", row)


if __name__ == "__main__":
    for name in [word for word in sys.argv[1:] if word not in OPTIONS] or ["same", "more", "agree"]:
        {"same": same, "more": more, "agree": agree}[name]()
