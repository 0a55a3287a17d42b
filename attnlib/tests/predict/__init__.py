"""Tests of what is in the room of this name."""
