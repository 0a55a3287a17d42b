"""What should come out of a stack, in closed form (cost, memory, gradients), and the probes that read what did.

No clock, no file and no device: whoever measures holds the two against each other.
"""
