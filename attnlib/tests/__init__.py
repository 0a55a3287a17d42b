"""Unit tests: one file a module."""
