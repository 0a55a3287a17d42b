"""How gradients and tokens vanish in deep stacks.

Closed forms say how, probes read it off a network, and checks hold one against the other.
"""
