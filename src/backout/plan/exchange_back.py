"""Plans that take back an exchange of data directories which was begun, and which nobody has worked with yet; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backout.model.plan import Plan, PlanKind, Step
from backout.model.steps.restore import StartServerStep
from backout.plan.restore import list_exchange_steps

if TYPE_CHECKING:
    from backout.model.steps.restore import ExchangeStep


def make_exchange_back(environment: str, exchange: ExchangeStep, mark: str) -> Plan:
    """Return the plan that takes back an exchange of which nobody has seen the new database yet, begun or done.

    Args:
        exchange: as it was planned; it is completed first, so that nothing is left half-way.
        mark: tells the folder of what is put away from those of others.
    """
    data, kept = exchange.data_directory, f"{exchange.data_directory}.backout-old-{mark}"
    stop, *others = list_exchange_steps(
        (data, exchange.kept, kept), (exchange.system_identifier, exchange.database), ""
    )
    whole = Step.of("complete the exchange that was begun", exchange)
    notes = (f"what others wrote to other databases of this server since the exchange stays in {kept}",)
    return Plan(PlanKind.RECOVER, environment, f"{exchange.kept} comes back", (stop, whole, *others), notes)


def make_start_plan(environment: str, data: str) -> Plan:
    """Return the plan that starts the server on the data directory that it has."""
    start = Step.of("start the server", StartServerStep(data_directory=data))
    return Plan(PlanKind.RECOVER, environment, "the server runs again", (start,))
