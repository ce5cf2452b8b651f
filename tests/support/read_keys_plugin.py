"""A plugin of mypy that writes down which settings the source reads, and where: FIELD, a tab, FILE.

A name alone says little (`history` is read a hundred times, and never of a bucket): mypy knows whose attribute it is.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mypy.nodes import MemberExpr
from mypy.plugin import Plugin

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy.plugin import AttributeContext
    from mypy.types import Type

TARGET = "BACKOUT_READ_KEYS"
OF_SETTINGS = ("backout.config.schema.", "backout.model.guard.policy.")


class ReadKeys(Plugin):
    """Hears of each attribute of a setting."""

    def get_attribute_hook(self, fullname: str) -> Callable[[AttributeContext], Type] | None:
        """Return what is called where the attribute is read."""
        if not fullname.startswith(OF_SETTINGS):
            return None

        def read(context: AttributeContext) -> Type:
            if isinstance(context.context, MemberExpr):  # and not its own declaration
                with Path(os.environ[TARGET]).open("a", encoding="utf-8") as file:
                    file.write(f"{fullname}\t{context.api.path}\n")  # type: ignore[attr-defined] # a checker has it
            return context.default_attr_type

        return read


def plugin(version: str) -> type[Plugin]:
    """Return the plugin."""
    return ReadKeys
