"""A contract for import-linter: no module imports itself, however indirectly.

Imports inside functions and those for type checkers count too: a circle of them is still two modules that
cannot be read one without the other. import-linter's own `acyclic_siblings` is about packages.
"""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from importlinter import Contract, ContractCheck, output

if TYPE_CHECKING:
    from grimp import ImportGraph


class NoCircles(Contract):
    """`type = "no_circles"` in pyproject.toml; it names one circle at a time."""

    type_name = "no_circles"

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:  # noqa: ARG002 - import-linter's
        """Return whether the modules can be put in an order in which each imports only those before it."""
        ours = graph.modules - {module for module in graph.modules if graph.is_module_squashed(module)}
        sorter = TopologicalSorter({module: graph.find_modules_directly_imported_by(module) & ours for module in ours})
        try:
            sorter.prepare()
        except CycleError as error:
            return ContractCheck(kept=False, metadata={"circle": error.args[1]})
        return ContractCheck(kept=True)

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Say which modules, each of which is imported by the next."""
        output.print_error("a circle of imports:")
        for module in check.metadata["circle"]:
            output.print_error(f"- {module}")
        output.new_line()
