"""A study plan as a TOML file to read and edit: every key, its value, and what it means."""

import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from wardround.shared.plan import StudyPlan

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_WIDTH = 96


def write(plan: StudyPlan, notes: Mapping[str, str] | None = None, heading: str = "") -> str:
    """Return the whole plan as commented TOML; loading it gives an equal plan.

    Args:
        plan: Every value is written; what is unset is written as a comment.
        notes: "table.key" or "key" -> a remark that is put above that key.
        heading: Lines to begin with, written as comments.
    """
    remarks = notes or {}
    lines = [f"# {line}".rstrip() for line in heading.splitlines()]
    tables: list[str] = []
    for name in type(plan).model_fields:
        value = getattr(plan, name)
        if isinstance(value, BaseModel):
            tables += ["", *_table(name, value, remarks)]
        else:
            lines += _entry(plan, name, value, remarks.get(name))
    return "\n".join([*lines, *tables]) + "\n"


def _table(name: str, section: BaseModel, notes: Mapping[str, str]) -> list[str]:
    about = (type(section).__doc__ or "").strip().splitlines()[0]
    lines = [f"# {about}", f"[{name}]"]
    for key in type(section).model_fields:
        lines += _entry(section, key, getattr(section, key), notes.get(f"{name}.{key}"))
    return lines


def _entry(section: BaseModel, key: str, value: Any, note: str | None) -> list[str]:
    about = type(section).model_fields[key].description
    remarks = [f"# {line}" for line in (note or "").splitlines()]
    text = f"# {key} =" if value is None else f"{key} = {_toml(value)}"
    if about is None:
        return [*remarks, text]
    one_line = f"{text}  # {about}"
    if len(one_line) <= _WIDTH:
        return [*remarks, one_line]
    return [*remarks, *(f"# {line}" for line in _wrapped(about)), text]


def _wrapped(text: str) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) + 3 > _WIDTH:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, dict):
        pairs = (f"{_key(key)} = {_toml(item)}" for key, item in value.items())
        return "{ " + ", ".join(pairs) + " }" if value else "{}"
    if isinstance(value, str):
        # A JSON string without escaped slashes is a TOML basic string.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else json.dumps(key, ensure_ascii=False)
