"""The registry of tables that are made of saved runs: by name, with a line that says what each shows."""

from collections.abc import Callable

from attnlib.compare.cells import Cells
from attnlib.show.beside import beside_tables
from attnlib.show.ceilings import ceilings
from attnlib.show.costs import costs
from attnlib.show.encodings import encodings
from attnlib.show.findings import findings
from attnlib.show.nodes import nodes
from attnlib.show.switch_costs import switch_costs
from attnlib.show.table import Table

TABLES: dict[str, tuple[Callable[[Cells], list[Table]], str]] = {
    "costs": (
        lambda cells: [*costs(cells), *beside_tables(cells)],
        "time over the reference: a table for each phase, a column for each encoding; or by the parameters of a test",
    ),
    "ceilings": (ceilings, "how near a step comes to the machine's ceilings, and predicted memory to measured"),
    "encodings": (encodings, "what each encoding costs, how gradients vanish and how tokens become alike"),
    "findings": (
        findings,
        "every claim about gradients: fitted with its 95 % interval, theory, band; and what was learned",
    ),
    "switch-costs": (
        switch_costs,
        "what each switch of bench/test_switches.py costs over the stack without it, and its effect on gradients",
    ),
    "nodes": (nodes, "each machine that measured a part of merged runs, and how steady it was"),
}
