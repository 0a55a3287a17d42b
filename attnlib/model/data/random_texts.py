"""The original experiment's dummy task, made reproducible: random letters with random labels."""

import torch
from torch import Tensor


def random_texts(
    *, n_texts: int, seq_len: int, vocab_size: int, n_classes: int, seed: int, device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """Return random texts with independent random labels on ``device``, the same for the same seed.

    A text keeps its label (the original drew a new one at every access, which no model can learn).

    Args:
        n_texts: N.
        seq_len: T.
        vocab_size: tokens lie in [0, vocab_size).
        n_classes: labels lie in [0, n_classes); 1 gives labels 0 and 1, for a single logit.
        seed: seed of the texts and labels; other random streams are not used.
        device: device of the tensors.

    Returns:
        tokens, int64 ``[N, T]``, and labels, int64 ``[N]``.
    """
    if torch.device(device).type == "meta":  # no storage, no texts
        return torch.empty(n_texts, seq_len, dtype=torch.int64, device=device), torch.empty(
            n_texts, dtype=torch.int64, device=device
        )
    generator = torch.Generator("cpu").manual_seed(seed)  # the same texts on every device
    tokens = torch.randint(vocab_size, (n_texts, seq_len), generator=generator, device="cpu")
    labels = torch.randint(max(2, n_classes), (n_texts,), generator=generator, device="cpu")
    return tokens.to(device), labels.to(device)
