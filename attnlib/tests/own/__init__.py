"""Tests of parts and models that are somebody else's."""
