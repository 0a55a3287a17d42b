"""Worker processes that take turns: before against after, and what each switch is worth; runs repeated.

Whoever asks a worker needs no torch.
"""
