"""Say what is wrong with a plan in the plan's own words: the key, the value and what is allowed.

A site's policy is read in the same way.
"""

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from wardround.shared.errors import PlanError

_M = TypeVar("_M", bound=BaseModel)


def validated(root: type[_M], content: dict[str, Any], what: str) -> _M:
    """Return what `content` describes, strictly: an unknown key is an error.

    Args:
        root: The model of the whole.
        content: Keys and values as TOML or JSON gives them.
        what: What it is and where it came from, for the message.

    Raises:
        PlanError: Naming each faulty key, its value and what is allowed.
    """
    try:
        text = json.dumps(content)
    except TypeError as error:
        raise PlanError(
            f"{what}: dates and times are not allowed ({error}). Write plain values."
        ) from error
    try:
        return root.model_validate_json(text)
    except ValidationError as error:
        lines = describe(root, content, error)
        raise PlanError(f"{what} is not valid:\n  " + "\n  ".join(lines)) from error


def describe(root: type[BaseModel], content: dict[str, Any], error: ValidationError) -> list[str]:
    """Return one line for each fault that validation found.

    Args:
        root: The model of the whole plan.
        content: The keys and values that were validated.
        error: What validation raised.
    """
    faults = error.errors()
    return [_line(root, content, fault) for fault in faults if not _follows(fault, faults)]


def _line(root: type[BaseModel], content: dict[str, Any], fault: Any) -> str:
    where = [part for part in fault["loc"] if isinstance(part, str | int)]
    key = ".".join(str(part) for part in where)
    if fault["type"] == "extra_forbidden":
        allowed = ", ".join(sorted(_section(root, where[:-1]).model_fields))
        return f"'{key}' (= {_value(content, where)!r}) is not a known key; allowed here: {allowed}"
    if fault["type"] == "missing":
        about = _section(root, where[:-1]).model_fields[str(where[-1])].description
        return f"'{key}' is missing and has no default" + (f": {about}" if about else "")
    if not where:
        return _rule(fault)
    return f"'{key}' (= {_value(content, where)!r}): {_rule(fault)}"


def _follows(fault: Any, faults: list[Any]) -> bool:
    """Return whether a list is too short only because a value inside it is wrong."""
    return fault["type"] == "too_short" and any(
        other is not fault and other["loc"][: len(fault["loc"])] == fault["loc"] for other in faults
    )


def _rule(fault: Any) -> str:
    context = fault.get("ctx", {})
    match fault["type"]:
        case "too_short" if context["min_length"] == 1:
            return "must not be empty"
        case "too_short":
            return f"must have {context['min_length']} values or more"
        case "too_long":
            return f"must have {context['max_length']} values or fewer"
        case "string_pattern_mismatch":
            return f"must match {context['pattern']}"
        case "literal_error":
            return f"must be one of {context['expected']}"
        case "bool_type":
            return "must be true or false"
        case "int_type" | "int_from_float":
            return "must be a whole number"
        case "tuple_type":
            return "must be a list"
        case "model_type" | "model_attributes_type" | "dict_type":
            return "must be a table"
        case _:
            message = str(fault["msg"]).removeprefix("Value error, ")
            return message.replace("Input should be", "must be").replace("a valid ", "a ")


def _section(root: type[BaseModel], where: list[str | int]) -> type[BaseModel]:
    model = root
    for part in where:
        annotation = model.model_fields[str(part)].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
    return model


def _value(content: Any, where: list[str | int]) -> Any:
    for part in where:
        try:
            content = content[part]
        except (KeyError, IndexError, TypeError):
            return None
    return content
