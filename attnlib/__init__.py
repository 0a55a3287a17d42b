"""Stacked self-attention with positional encodings, and the instruments that measure it.

Importing the package loads nothing else, so that reading saved runs never needs torch; import the modules:
``attnlib.model`` builds stacks, ``attnlib.measure`` times and weighs them, ``attnlib.runs`` reads saved runs.
"""

__version__ = "0.1.0"
