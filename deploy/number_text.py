"""Numbers as people read them: fixed decimals, a true minus sign, a dash where there is none."""

MINUS = "\u2212"
NONE = "\u2013"


def number(value: float | None, *, signed: bool = False, digits: int = 3) -> str:
    """Return `value` with `digits` decimals and a true minus sign; a dash for None."""
    if value is None:
        return NONE
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    sign = MINUS if value < 0 else "+" if signed else ""
    return sign + text
