"""More cells than one machine has hours: cut into shards, run here or on Slurm, watched, resumed and merged.

Each task is a pytest process with a journal in the sweep's folder; nothing here imports torch or pytest.
"""
