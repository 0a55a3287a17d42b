"""A run's book-keeping: options, the order of tests, what became of each, the journal, resuming and the final file.

How a case is measured is no business of this folder; what knows pytest's hooks is here and in ``conftest.py``.
"""
