"""Vanishing gradients and collapsing tokens in deep stacks.

Closed forms predict the decay, probes measure it in a network, and checks compare the two.
"""
