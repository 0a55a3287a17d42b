"""A case and how it is run: its fields, presets and settings, the grids that tests are spread over, its workload.

Imports of ours: ``model``, ``measure`` and ``runs``.
"""
