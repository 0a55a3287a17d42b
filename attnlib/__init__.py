"""Stacked self-attention with positional encodings, and the instruments that measure it.

Importing the package loads nothing else, so that reading saved runs never needs torch. ``model`` builds stacks,
``theory`` says what should come out, ``measure`` times and weighs any callable; ``runs`` holds one saved run,
``compare`` sets several side by side, ``show`` makes tables and figures, ``commands`` is the command line.
"""

__version__ = "0.1.0"
