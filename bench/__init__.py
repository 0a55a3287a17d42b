"""The benchmarks: each ``test_*.py`` names its cases, and the plugin in ``attnlib.plugin`` measures them."""

import sys

from attnlib.errors import message

MOVED = {"bench.trust": "attnlib trust", "bench.worker": "python -m attnlib.live.worker"}

if sys.argv[0] == "-m" and (module := next((name for name in MOVED if name in sys.orig_argv), None)):
    raise SystemExit(message(f"python -m {module} has moved", do=f"run {MOVED[module]}"))
