"""Predictions of what a step costs before it is run: FLOPs, attention kernel, peak memory, and the largest stacks.

Steps are traced on tensors of the device ``meta``, which have shapes and no storage.
"""
