"""Unit tests, in folders like the rooms that they test; ``docs`` follows README and docs as a newcomer would."""

from pathlib import Path

ROOT = Path(__file__).parents[2]  # of the checkout
