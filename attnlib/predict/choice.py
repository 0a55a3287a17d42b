"""The attention kernel that ``scaled_dot_product_attention`` chooses: asked of torch where the device is here.

Elsewhere it follows from torch's rules, in a table.
"""

import re
from typing import Any, NamedTuple

import torch
from packaging.version import Version
from torch import Tensor
from torch.nn.attention import SDPBackend
from torch.utils._python_dispatch import _disable_current_modes

from attnlib.errors import message

FLASH_CPU, FLASH, EFFICIENT, CUDNN, MATH = (
    "flash_attention_for_cpu", "flash_attention", "efficient_attention", "cudnn_attention", "attention_math",
)  # fmt: skip
HALF = (torch.float16, torch.bfloat16)
ON_CUDA = {
    SDPBackend.MATH: MATH,
    SDPBackend.FLASH_ATTENTION: FLASH,
    SDPBackend.EFFICIENT_ATTENTION: EFFICIENT,
    SDPBackend.CUDNN_ATTENTION: CUDNN,
}


class Wanted(NamedTuple):
    """Properties by which a kernel is chosen.

    Args:
        dtype: of queries, keys and values.
        width: K, of a head.
        biased: True if a bias is added to the scores.
        learned: True if the bias needs a gradient.
        trains: True if queries, keys or values need one.
    """

    dtype: torch.dtype
    width: int
    biased: bool = False
    learned: bool = False
    trains: bool = False


class Card(NamedTuple):
    """An NVIDIA GPU that need not be here.

    Args:
        capability: its compute capability, such as (9, 0).
        cudnn: the version of cuDNN beside it, as torch writes it: 91900 is 9.19.0.
    """

    capability: tuple[int, int]
    cudnn: int

    def __str__(self) -> str:
        """Return both in words."""
        major, minor = self.capability
        version = f"{self.cudnn // 10000}.{self.cudnn // 100 % 100}.{self.cudnn % 100}"
        return f"compute capability {major}.{minor} and cuDNN {version}"


def card_of(text: str) -> Card:
    """Return the card that a text such as ``9.0,9.19`` names: compute capability and version of cuDNN.

    Raises:
        ValueError: it is no such text.
    """
    found = re.fullmatch(r"(\d{1,2})\.(\d),(\d{1,2})\.(\d{1,2})(?:\.(\d{1,2}))?", text)
    if found is None:
        raise ValueError(message("--card takes a compute capability and a version of cuDNN such as 9.0,9.19", text))
    major, minor, *version = (int(part or 0) for part in found.groups())
    return Card((major, minor), 10000 * version[0] + 100 * version[1] + version[2])


ASSUMED = Card((8, 0), 0)  # where a card is not known: one on which cuDNN is not asked first


class Choice(NamedTuple):
    """A kernel's name as torch has it, and how it is known; None where no device need be asked."""

    kernel: str
    known: str | None = None


def attention_kernel(device: str, wanted: Wanted, card: Card | None = None) -> Choice:
    """Return the kernel that ``scaled_dot_product_attention`` chooses on a device.

    Args:
        device: ``cpu``, ``cuda:1``, ...
        wanted: what the choice depends on.
        card: a GPU that stands for ``cuda``; None for the one that is here.
    """
    if device.startswith("cpu"):  # the fused kernel computes no gradient of a bias
        return Choice(MATH if wanted.learned else FLASH_CPU)
    if not device.startswith("cuda"):
        return Choice(MATH, f"assumed, as what torch chooses on {device} is not known")
    if card is not None:
        return Choice(by_table(wanted, card), f"by torch's rules for {card}")
    if is_here(device):
        return Choice(asked(device, wanted), "asked of torch")
    return Choice(by_table(wanted, ASSUMED), "assumed, as the card is not here and --card does not name it")


def is_here(device: str) -> bool:
    """Return True if torch finds this CUDA device."""
    return torch.cuda.is_available() and (torch.device(device).index or 0) < torch.cuda.device_count()


def asked(device: str, wanted: Wanted) -> str:
    """Return the kernel that torch itself chooses, for tiny tensors on the device."""
    with _disable_current_modes(), torch.enable_grad():  # a mode that records steps must not see these tensors
        q, k, v, bias = tiny(device, wanted)
        return ON_CUDA[SDPBackend(torch._fused_sdp_choice(q, k, v, bias))]


def tiny(device: str, wanted: Wanted) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Return queries, keys and values of one head and 64 tokens, and their bias or None."""
    like: dict[str, Any] = {"device": device, "dtype": wanted.dtype}
    q, k, v = (torch.empty(1, 1, 64, wanted.width, requires_grad=wanted.trains, **like) for _ in range(3))
    bias = torch.empty(1, 1, 64, 64, requires_grad=wanted.learned, **like) if wanted.biased else None
    return q, k, v, bias


def by_table(wanted: Wanted, card: Card, torch_version: str = torch.__version__) -> str:
    """Return the kernel that torch should choose on a card: the first that takes the case.

    ======== =========== ================== ========================== ========== ==========
    order    capability  dtype              K                          bias       its gradient
    ======== =========== ================== ========================== ========== ==========
    cuDNN    9.0, 10.0,  half precision     a multiple of 8 up to 128; yes        no
             10.3                           up to 256 on 9.0
    flash    8.0 to 12.1 half precision     up to 256; in training not no
                                            193 to 224 on 8.6 to 8.9
                                            and from 12.0 on
    CUTLASS  5.0 to 12.1 up to float32,     a multiple of 8 in half    yes        yes
                         bfloat16 from 8.0  precision, of 4 in float32
    unfused  any         any                any                        yes        yes
    ======== =========== ================== ========================== ========== ==========

    cuDNN is first from torch 2.10 on with a cuDNN above 9.15.0, unless ``TORCH_CUDNN_SDPA_DEPRIORITIZED`` is set, and
    in 2.9 with 9.9 or later (not on 10.3), unless ``TORCH_CUDNN_SDPA_PREFERRED`` is 0; a table cannot know of these
    variables. In other releases, and with an older cuDNN, it comes last and is never reached.

    Sources: aten/src/ATen/native/transformers/cuda/sdp_utils.cpp (``check_prefer_cudnn_attention``,
    ``priority_order``, ``can_use_*_attention``) in copies of torch from September 2025 (before 2.9), of about 2.11, and
    of main after 2.13; sdp_utils_cpp.h (``check_attn_mask_shape``) and Context.h (the order) of 2.13. Those of 2.6 and
    of the tags themselves were not read. After 2.13 widths above 128 need cuDNN 9.23 and, in training, K = 256.
    """
    half, width = wanted.dtype in HALF, wanted.width
    if cudnn_is_first(card, torch_version) and half and width % 8 == 0 and not wanted.learned:
        wide = card.capability == (9, 0) and card.cudnn >= 91000
        if width <= (256 if wide else 128):
            return CUDNN
    if half and not wanted.biased and (8, 0) <= card.capability <= (12, 1) and width <= 256:
        narrow = (8, 6) <= card.capability <= (8, 9) or card.capability >= (12, 0)
        if not (wanted.trains and narrow and 192 < width <= 224):
            return FLASH
    known = (5, 0) <= card.capability <= (12, 1) and wanted.dtype in efficient_dtypes(card)
    return EFFICIENT if known and width % aligned(card, half=half) == 0 else MATH


def cudnn_is_first(card: Card, torch_version: str) -> bool:
    """Return True if torch tries cuDNN's kernel before all others, see ``by_table``."""
    release = Version(torch_version).release[:2]
    if release >= (2, 10):
        return card.capability in ((9, 0), (10, 0), (10, 3)) and card.cudnn > 91500
    return release >= (2, 9) and card.capability in ((9, 0), (10, 0)) and card.cudnn >= 90900


def efficient_dtypes(card: Card) -> tuple[torch.dtype, ...]:
    """Return the dtypes that CUTLASS's kernel takes."""
    return (torch.float32, *HALF) if card.capability >= (8, 0) else (torch.float32, torch.float16)


def aligned(card: Card, *, half: bool) -> int:
    """Return the number that must divide the width of a head for CUTLASS's kernel: 128 bits with tensor cores."""
    if card.capability >= (8, 0):
        return 8 if half else 4
    return 8 if half and card.capability >= (7, 0) else 1
