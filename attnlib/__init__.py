"""Stacked self-attention with positional encodings, and the instruments that measure it.

Importing the package loads nothing else, so that reading saved runs never needs torch. ``from attnlib.model import
StackConfig, build_model`` makes a stack; each folder says in two lines what it is.

PYTEST_DONT_REWRITE: an installed attnlib brings pytest a plugin, and pytest would warn where it was imported before.
"""

__version__ = "0.1.0"
