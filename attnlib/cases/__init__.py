"""Cases and how they are run: fields, presets, settings, grids of cases, workloads, and checks of parts.

Imports of ours: ``model``, ``measure`` and ``runs``.
"""
