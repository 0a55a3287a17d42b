"""Saved runs: their schema, the journal of a run that is being measured, saving, finding and loading.

Comparisons of several runs are in ``attnlib.compare``; nothing here imports torch or pytest.
"""
