"""The forecast of a case: FLOPs, peak memory and least time of a step that was never run."""

from dataclasses import asdict
from typing import Any

import torch

from attnlib.cases.case import Case
from attnlib.measure import clock
from attnlib.measure.ceilings import Ceilings, Rates, best, listen_undisturbed
from attnlib.measure.device import open_device
from attnlib.predict.choice import Card
from attnlib.predict.flops import algorithmic_flops, executed_flops, parameters
from attnlib.predict.kernels import CALIBRATED, is_calibrated
from attnlib.predict.peak import kernel_of, outlook


def forecast(case: Case, known: Rates | None = None, card: Card | None = None) -> dict[str, Any]:
    """Return the predicted cost of one step of a case on this machine.

    Args:
        case: to predict.
        known: rates of this machine, read before; where they are higher they are used.
        card: a GPU that stands for the case's device ``cuda``, which then is not here.

    Returns:
        ``case``; ``kernel``, of attention, and ``kernel_known``, how it is known where the device decides; ``params``;
        ``flops`` by kind (``algorithmic``, ``executed``), component and direction, null if a part is somebody else's;
        the entries of ``peak.outlook``, with ``floor_s`` null if the device is not here; ``ceilings_disturbed``, the
        reasons if something else used the machine while rates were read that are used; ``torch`` and ``threads``;
        ``calibrated``, the torch release that predicted peaks were checked with, null if it is this one.
    """
    kernel, known_kernel = kernel_of(case, card)
    flops = None
    if case.paired and not case.own_parts.keys() - {"pe", "init"}:  # of other people's parts there is no formula
        flops = {
            "algorithmic": algorithmic_flops(case, case.batch_size),
            "executed": executed_flops(case, case.batch_size, kernel),
        }
    rates, reasons = rates_here(case) if card is None else (None, [])
    if rates is not None and known is not None:
        rates = best([rates, known])
        reasons = [] if rates == known else reasons
    return outlook(case, rates, card) | {
        "ceilings_disturbed": reasons,
        "case": asdict(case),
        "kernel": kernel,
        "kernel_known": known_kernel,
        "params": parameters(case),
        "flops": flops,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "calibrated": None if is_calibrated() else CALIBRATED,
    }


def rates_here(case: Case) -> tuple[Rates | None, list[str]]:
    """Return the peak rates of a case's device, None if it is not here; and the reasons why they are disturbed."""
    try:
        device = open_device(case.device)
    except ValueError:
        return None, []
    clock.bind(device)
    return listen_undisturbed(Ceilings(device, getattr(torch, case.dtype)), device)
