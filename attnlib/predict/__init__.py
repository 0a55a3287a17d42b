"""Predictions, before a step is run: FLOPs, attention kernels, peak memory, and how far a stack may go.

Steps are run for shapes alone, on tensors without storage.
"""
