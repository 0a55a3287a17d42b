"""The benchmark: ``test_*.py`` say what is measured, the modules beside them are the way from axes to a number.

A run's book-keeping is in ``session``, the checks of gradients are in ``checks``, instruments in ``attnlib.measure``.
"""
