"""For people: tables and figures of saved runs, by name in two registries, and how numbers are written.

Nothing is computed here that another room could need, and nothing imports torch.
"""
