"""Measurements in other processes: live comparisons of two sides, the effect of each switch, and repeated runs.

Only the worker processes import torch, not their clients.
"""
