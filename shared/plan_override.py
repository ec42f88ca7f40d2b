"""`KEY=VALUE` on the command line: one key of a plan, changed before the plan is validated."""

import tomllib
from typing import Any

from wardround.shared.errors import PlanError


def apply_override(content: dict[str, Any], override: str) -> None:
    """Set one key of a plan that is still plain tables.

    Args:
        content: Is changed.
        override: Such as ``method.name=finetune``; the value is TOML, or a bare word.

    Raises:
        PlanError: It is not KEY=VALUE, or KEY lies within a value.
    """
    key, equals, text = override.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise PlanError(
            f"override '{override}' is not KEY=VALUE. "
            f"Write for example seed=3 or method.name=finetune."
        )
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    table = content
    for part in path[:-1]:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise PlanError(
                f"override '{override}': '{part}' is a value, not a table. Name a key of a table."
            )
    table[path[-1]] = value
