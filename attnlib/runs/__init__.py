"""One saved run: the results contract, the journal that keeps it while it grows, saving it whole, and the one loader.

What several runs say together is in ``attnlib.compare``; nothing here imports torch or pytest.
"""
