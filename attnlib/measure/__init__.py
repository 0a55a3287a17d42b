"""Instruments for any callable: clock, rounds, sampling, memory, NVML, noise, canary, and limits of time and memory.

They know nothing of attention, of saved runs or of pytest.
"""
