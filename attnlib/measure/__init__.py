"""Instruments for any callable: clock, sampling, memory, machine. They know nothing of attention."""
