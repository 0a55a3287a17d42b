"""How gradients and tokens vanish in deep stacks: closed forms, probes that read them, checks of one against the other."""
