"""Sweeps: a large set of cases is cut into shards, measured here or on Slurm, resumed after faults, and merged.

Each shard is measured by a pytest process of its own, with a journal in the sweep's folder. Nothing here imports torch
or pytest.
"""
