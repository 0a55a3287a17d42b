"""A command in a process group of its own, which is killed as a whole when its time is up."""

import contextlib
import os
import signal
import subprocess

from attnlib.tests import ROOT

GRACE = 5.0  # seconds for a killed process to be gone; one that hangs in the driver may never be


def run_limited(command, limit, log):
    """Run a command in the checkout and return how it failed, None if it did not.

    Args:
        command: program and arguments.
        limit: seconds after which the whole group is killed.
        log: file for everything that it prints.
    """
    environment = {"KINETO_LOG_LEVEL": "5", **os.environ}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with log.open("w") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, start_new_session=True, env=environment
        )
        try:
            code = process.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:  # what it started may have outlived it
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=GRACE)
    if code is None:
        return f"killed after {limit:.0f} s"
    return None if code == 0 else f"exit code {code}: {last_line(log)}"


def last_line(log):
    """Return the last line of a log that is not empty, shortened."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it printed nothing"
