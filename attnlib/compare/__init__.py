"""Several runs side by side: verdicts, saved against saved, live workers in turns, repeats, scaling fits.

Numbers, and reasons in words; tables are made in ``attnlib.show``. Nothing here imports torch: commands start at once.
"""
