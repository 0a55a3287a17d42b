"""What is measured: each ``test_*.py`` is a docstring, axes and a line; the plugin in ``attnlib.plugin`` measures."""

import sys

MOVED = {"bench.trust": "attnlib trust", "bench.worker": "python -m attnlib.live.worker"}

if sys.argv[0] == "-m" and (module := sys.orig_argv[sys.orig_argv.index("-m") + 1]) in MOVED:
    raise SystemExit(f"python -m {module} is called {MOVED[module]} now")
