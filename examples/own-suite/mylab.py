"""Two ways to write RMSNorm (arXiv 1910.07467): the second one is ours, and should not cost more."""

import torch


def rms_norm(x, gain, eps=1e-6):
    """RMS norm as it is often written: [B, T, D] to [B, T, D]."""
    return x / torch.sqrt(x.pow(2).mean(-1, keepdim=True) + eps) * gain


def fast_rms_norm(x, gain, eps=1e-6):
    """One pass over x less."""
    return torch.nn.functional.rms_norm(x, gain.shape, gain, eps)
