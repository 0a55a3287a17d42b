"""Parts as somebody else may write them: a few that keep the rules, and many that break one each."""

import math

import torch
from torch import nn


class Encoding(nn.Module):
    """Keeps every rule: a learned table. The others below break one."""

    def __init__(self, *, seq_len, d_model, n_heads, head_dim, causal):
        super().__init__()
        self.table = nn.Parameter(torch.randn(seq_len, d_model))

    def embed(self, x):
        return x + self.table[: x.shape[1]]


class Renamed(Encoding):
    """Keeps every rule: the same table by another name."""

    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.positions = self.table
        del self.table

    def embed(self, x):
        return x + self.positions[: x.shape[1]]


class Slopes:
    """Keeps every rule, and is no module: ALiBi's bias, made anew each time."""

    def __init__(self, seq_len, d_model, n_heads, head_dim, causal):
        self.n_heads = n_heads

    def by_distance(self, seq_len):
        distance = torch.arange(1 - seq_len, seq_len).abs()
        return -distance * 0.5 ** torch.arange(1, self.n_heads + 1)[:, None]


class SeesTheMean(Encoding):
    def embed(self, x):
        return x + 0.1 * x.mean(1, keepdim=True)


class SeesTheNext(Encoding):
    def rotate(self, q, k):
        return q + 0.5 * q.roll(-1, 2), k


class DividesByZero(Encoding):
    def embed(self, x):
        return x / torch.arange(x.shape[1], device=x.device)[:, None]


class LongBias(Encoding):
    def bias(self, seq_len):
        return torch.zeros(2, seq_len, seq_len + 1)


class Doubles(Encoding):
    def rotate(self, q, k):
        return q.double(), k


class OnlyQueries(Encoding):
    def rotate(self, q, k):
        return q


class GivesNone(Encoding):
    def embed(self, x):
        self.table[: x.shape[1]]


class Counts(Encoding):
    calls = 0

    def embed(self, x):
        self.calls += 1
        return x * self.calls


class RemembersTheFirstLength(Encoding):
    first = None

    def embed(self, x):
        self.first = self.first or x.shape[1]
        return x + self.table[: x.shape[1]] / self.first


class DropsOut(Encoding):
    def embed(self, x):
        return nn.functional.dropout(x, 0.1, self.training)


class Constant(Encoding):
    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.weights = [torch.ones(sizes["d_model"])]

    def embed(self, x):
        return x * self.weights[0].to(x)


class Unsaved(Encoding):
    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.register_buffer("random", torch.randn(sizes["d_model"]), persistent=False)

    def embed(self, x):
        return x * self.random


class TwiceTheGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


class WrongForInputs(Encoding):
    def embed(self, x):
        return TwiceTheGradient.apply(x)


class WrongForParameters(Encoding):
    def embed(self, x):
        return x + TwiceTheGradient.apply(self.table)[: x.shape[1]]


class Detaches(Encoding):
    def embed(self, x):
        return x.detach()


class ComputesInFloat32(Encoding):
    """Keeps every rule, and rounds whatever it is given."""

    def embed(self, x):
        return (x.float().sin() + self.table[: x.shape[1]]).to(x)


class TwoBiases(Encoding):
    def bias(self, seq_len):
        return torch.zeros(2, seq_len, seq_len)

    def by_distance(self, seq_len):
        return torch.ones(2, 2 * seq_len - 1)


class Raises(Encoding):
    def embed(self, x):
        raise RuntimeError("no such table\nand more lines")


class Exits(Encoding):
    def embed(self, x):
        raise SystemExit(3)


class CannotBeMade(Encoding):
    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.missing.table = 1


class NeedsCuda(Encoding):
    def bias(self, seq_len):
        return torch.zeros(2, seq_len, seq_len, device="cuda")


class NeedsData(Encoding):
    def embed(self, x):
        return x * float(x.abs().max() > 0)


class Prints(Encoding):
    def embed(self, x):
        print("embedding", tuple(x.shape))
        return x


class Nothing(nn.Module):
    def __init__(self, *, seq_len, d_model, n_heads, head_dim, causal):
        super().__init__()


class OtherKeywords:
    def __init__(self, length):
        self.length = length

    def embed(self, x):
        return x


class OtherSignature(Encoding):
    def embed(self, x, positions):
        return x + positions


def attention(q, k, v, bias, causal):
    """Keeps every rule."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    if bias is not None:
        scores = scores + bias
    elif causal:
        scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -math.inf)
    return scores.softmax(-1) @ v


def float32_weights(module, query, key, value, attention_mask, scaling=1.0, dropout=0.0, **kwargs):
    """Keeps every rule, in the manner of transformers: weights are rounded to float32."""
    scores = query @ key.transpose(-2, -1) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    return (weights @ value).transpose(1, 2).contiguous(), weights


def overflows(q, k, v, bias, causal):
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    if bias is not None:
        scores = scores + bias
    elif causal:
        scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -math.inf)
    weights = scores.exp()
    return weights / weights.sum(-1, keepdim=True) @ v


def without_scale(q, k, v, bias, causal):
    return attention(q * math.sqrt(q.shape[-1]), k, v, bias, causal)


def forgets_the_mask(q, k, v, bias, causal):
    return attention(q, k, v, bias, False)


def ignores_bias(q, k, v, bias, causal):
    return attention(q, k, v, None, causal)


def drops_infinity(q, k, v, bias, causal):
    return attention(q, k, v, None if bias is None else bias.clamp(min=-1), causal)


def refuses_bias(q, k, v, bias, causal):
    if bias is not None:
        raise NotImplementedError("no bias here")
    return attention(q, k, v, bias, causal)


def tokens_first(q, k, v, bias, causal):
    return attention(q, k, v, bias, causal).transpose(1, 2)


def without_causal(q, k, v, bias):
    return attention(q, k, v, bias, False)


def takes_anything(*args, **kwargs):
    return attention(*args)


class Gate(nn.Module):
    """Keeps every rule: x + a F(x), a starting from 0."""

    def __init__(self, d_model):
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(()))

    def sublayer(self, x, function, index):
        return x + self.gate * function(x)


class LeavesOut:
    def sublayer(self, x, function, index):
        return x if index == 1 else x + function(x)


class Centres:
    def sublayer(self, x, function, index):
        return x + function(x) - x.mean(1, keepdim=True)


class Narrow:
    def sublayer(self, x, function, index):
        return (x + function(x))[..., :-1]


def weights(qkv, out):
    """Keeps every rule."""
    for linear in (qkv, out):
        nn.init.normal_(linear.weight, std=0.1)
        nn.init.zeros_(linear.bias)


def forgets_biases(qkv, out):
    for linear in (qkv, out):
        nn.init.normal_(linear.weight, std=0.1)


def freezes(qkv, out):
    weights(qkv, out)
    out.bias.requires_grad_(False)


def draws_by_itself(qkv, out):
    weights(qkv, out)
    out.weight.copy_(torch.randn(out.weight.shape, generator=GENERATOR))


GENERATOR = torch.Generator()
