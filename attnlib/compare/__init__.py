"""Comparison of runs: cells over several runs, verdicts on two sets of saved runs, repeats, scaling fits.

Numbers, and reasons in words; tables are made in ``attnlib.show``. Nothing here imports torch: commands start at once.
"""
