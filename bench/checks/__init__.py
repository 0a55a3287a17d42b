"""The checks of gradients: seeded stacks are read, a number is fitted a seed, and set beside its closed form.

Nothing is timed here; ``bench/test_gradients.py`` says which stacks are checked.
"""
