"""Several runs side by side: verdicts, saved against saved, live workers in turns, repeats, scaling fits.

Numbers only, no formatting; nothing here imports torch, since commands on saved runs must start at once.
"""
