"""An attention of ours: logits are capped by a tanh, as in Gemma 2 (arXiv 2408.00118), in transformers' interface."""

import torch

CAP = 50.0


def capped_attention(module, query, key, value, attention_mask, scaling=None, **kwargs):
    """Queries, keys and values [B, H, T, K] to [B, T, H, K], and the weights."""
    scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    scores = CAP * torch.tanh(scores / CAP)
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = scores.softmax(-1)
    return (weights @ value).transpose(1, 2), weights
