"""Tests of callables beside each other, and of the sessions of other repositories that measure them."""
