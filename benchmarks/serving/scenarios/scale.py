"""More processes, more executors: what each buys on two cores."""

from __future__ import annotations

from ..contestants import net_of
from ..context import Context
from ..measure import InProcess, Row
from ..models import MODELS
from ..result import Result, Table, standard

NAME = "scale"
GRID = [(workers, executors) for workers in (1, 2) for executors in (1, 2)]
LOADS = (("tiny", 64), ("digits", 64), ("conv", 16))


def run(context: Context) -> Result:
    """Every pair of `--workers` and `--executors` on a server-bound, a mixed and a network-bound load."""
    result = Result(
        NAME,
        "Workers and executors",
        "`--workers` is the number of processes, `--executors` of networks that compute at once in each. "
        "What more of them buy depends on what is short: the front end (tiny), both (digits) or the network "
        "(conv).",
    )
    every: list[Row] = []
    for name, clients in LOADS:
        model = MODELS[name]
        servers = [net_of(model, f"--workers={w}", f"--executors={e}") for w, e in GRID]
        every += context.rows(servers, name, (clients,), InProcess(context.limit, model))
    result.keep(every)
    result.tables = [_curve(every), standard("The same in full", every)]
    return result


def _curve(rows: list[Row]) -> Table:
    """Over the row of one worker and one executor."""
    first = {row.model: row for row in rows if row.server == "modelport --workers 1 --executors 1"}
    columns = ["load", *(f"{w} worker{'s' * (w > 1)}, {e} executor{'s' * (e > 1)}" for w, e in GRID)]
    cells = []
    for name, clients in LOADS:
        line = [f"{name}, {clients} clients"]
        for workers, executors in GRID:
            named = f"modelport --workers {workers} --executors {executors}"
            row = next((each for each in rows if each.model == name and each.server == named), None)
            base = first.get(name)
            line.append(f"{row.rate:,.0f}/s ({row.rate / base.rate:.2f})" if row and base else "-")
        cells.append(line)
    return Table("Answers a second, and over one worker with one executor", columns, cells)
