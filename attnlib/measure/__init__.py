"""Instruments for any callable: clock, rounds, sampling, memory, NVML; noise and canary; limits of time and memory.

They know nothing of attention, of saved runs or of pytest.
"""
