"""`dataset.json`, which both nnU-Net and the Decathlon use to describe a data set."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wardround.site_client.data.faults import Fault


def read_description(folder: Path) -> dict[str, Any] | Fault:
    """Return the content of `dataset.json`, or what is wrong with it."""
    file = folder / "dataset.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        return Fault(
            file=file,
            problem=f"the file cannot be read ({error.strerror})",
            remedy="Restore it, or use the plain layout: images/ and labels/",
        )
    except ValueError as error:
        return Fault(file=file, problem=f"not valid JSON ({error})", remedy="Mend that line")
    if not isinstance(content, dict):
        problem = "the outermost value is not an object"
        return Fault(file=file, problem=problem, remedy='Write {"labels": ...}')
    return content


def foreground(pairs: Mapping[str, object], file: Path) -> tuple[dict[str, int], list[Fault]]:
    """Return the foreground names of a labels table with their values, and what is wrong with it.

    Args:
        pairs: Name -> label value as written in the file; 0 is the background.
        file: The `dataset.json` the table is from, for the faults.
    """
    names: dict[str, int] = {}
    faults: list[Fault] = []
    for name, value in pairs.items():
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 255:
            problem = f"label '{name}' has the value {value!r}, expected one integer in 0..255"
            remedy = "Give every class one integer; label regions and 'ignore' are not supported"
            faults.append(Fault(file=file, problem=problem, remedy=remedy))
        elif value:
            names[name] = value
    if len(set(names.values())) != len(names):
        problem = f"two labels share a value: {names}"
        faults.append(Fault(file=file, problem=problem, remedy="Give every class its own integer"))
    return names, faults
