"""Where the marks of the page's charts go: numbers in, coordinates out; the templates draw them."""

from collections.abc import Sequence
from dataclasses import dataclass

Values = Sequence[float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One value of a line, in the coordinates of its chart."""

    visit: int
    value: float
    x: float
    y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A named line; `path` is the `d` of an SVG path, empty where fewer than two values meet."""

    name: str
    key: str
    marks: tuple[Mark, ...]
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A labelled position on an axis."""

    label: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LineChart:
    """A chart of Dice over visits; sizes in user units of the SVG."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """The drawing area of a line chart, and the Dice at its lower edge."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    num_visits: int
    floor: float = 0.0

    def x(self, visit: int) -> float:
        """Return the abscissa of a visit, 0 at the left edge."""
        span = self.width - self.left - self.right
        return round(self.left + span * visit / max(self.num_visits, 1), 2)

    def y(self, value: float) -> float:
        """Return the ordinate of a Dice value; 1 is the upper edge."""
        span = self.height - self.top - self.bottom
        return round(self.top + span * (1 - (value - self.floor) / (1 - self.floor)), 2)


def line(name: str, key: str, values: Values, frame: Frame) -> Line:
    """Return the line of one value per visit; a None breaks the path."""
    marks = tuple(
        Mark(visit=visit, value=value, x=frame.x(visit), y=frame.y(value))
        for visit, value in enumerate(values)
        if value is not None
    )
    return Line(name=name, key=key, marks=marks, path=_path(marks))


def chart(frame: Frame, lines: Sequence[Line], y_step: float = 0.2) -> LineChart:
    """Return a chart of `lines` with a tick per visit and one every `y_step` of Dice."""
    count = round((1 - frame.floor) / y_step)
    y_values = [1 - y_step * i for i in range(count + 1) if 1 - y_step * i >= frame.floor - 1e-9]
    return LineChart(
        width=frame.width,
        height=frame.height,
        left=frame.left,
        right=frame.right,
        top=frame.top,
        bottom=frame.bottom,
        x_ticks=tuple(Tick(label=str(v), at=frame.x(v)) for v in range(frame.num_visits + 1)),
        y_ticks=tuple(Tick(label=f"{abs(v):.1f}", at=frame.y(v)) for v in y_values),
        lines=tuple(lines),
    )


def shares(parts: Sequence[float], longest: float) -> tuple[float, ...]:
    """Return the widths, in percent of the longest bar, of the parts of one stacked bar."""
    return tuple(round(100 * part / longest, 3) if longest > 0 else 0.0 for part in parts)


def _path(marks: Sequence[Mark]) -> str:
    if len(marks) < 2:
        return ""
    pieces = []
    for before, mark in zip([None, *marks], marks, strict=False):
        joined = before is not None and before.visit == mark.visit - 1
        pieces.append(f"{'L' if joined else 'M'}{mark.x:g} {mark.y:g}")
    return " ".join(pieces)
