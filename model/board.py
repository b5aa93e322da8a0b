"""Places boxes on a grid and finds a way for each arrow, as on a circuit board.

A wire leaves a box into the gutter beside it, runs along a free track between two rows of boxes, down the gutter of the
target's column and into the target: no wire crosses a box. The board knows neither model nor drawing; x runs to the right
and y upwards, in inches.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

__all__ = ["Arrow", "Board", "Place", "Point", "Spacing"]

Point = tuple[float, float]


@dataclass
class Place:
    """Where a box stands: its column, its first row and how many rows it takes; then x (left), y (middle) and size."""

    name: str
    column: int
    row: float
    rows: float = 1.0
    headed: bool = False
    width: float = 1.22
    x: float = 0.0
    y: float = 0.0
    height: float = 0.5


@dataclass(frozen=True)
class Arrow:
    """Something to connect; arrows of one `ink` that leave a side of a box share a trunk."""

    source: str
    target: str
    ink: Hashable


@dataclass(frozen=True)
class Spacing:
    """Distances in inches: of rows (all alike, or one by one), boxes above each other, ports on a side, lanes in a gutter,
    tracks between rows, and a lane and the next box.
    """

    pitch: float | tuple[float, ...] = 0.84
    between: float = 0.34
    port: float = 0.062
    lane: float = 0.075
    track: float = 0.066
    margin: float = 0.17


@dataclass
class _Trunk:
    """All arrows of one ink that leave one side of one box."""

    source: str
    targets: list[str]
    ink: Hashable
    back: bool
    gap: int | None = None
    track: float = 0.0
    lanes: dict[int, float] = field(default_factory=dict)
    exit_y: float = 0.0
    ports: dict[str, float] = field(default_factory=dict)

    @property
    def order(self) -> tuple[str, str, bool]:
        """To break ties the same way every time."""
        return self.source, str(self.ink), self.back


@dataclass(eq=False)
class _Stub:
    """The stretch of a wire between a box and its lane; `target` is empty where it leaves the box."""

    trunk: _Trunk
    target: str
    box: Place
    gutter: int
    low: float
    high: float

    @property
    def y(self) -> float:
        return self.trunk.ports[self.target] if self.target else self.trunk.exit_y

    @y.setter
    def y(self, value: float) -> None:
        if self.target:
            self.trunk.ports[self.target] = value
        else:
            self.trunk.exit_y = value

    def meets(self, other: _Stub) -> bool:
        """Whether two of different trunks lie on each other, or nearly."""
        return (
            self.trunk is not other.trunk
            and abs(self.y - other.y) < CLEAR
            and min(self.high, other.high) - max(self.low, other.low) > -TINY
        )


class Board:
    """The places of all boxes and the corners of all arrows.

    Parameters
    ----------
    places : sequence of Place
        Filled in: x, y and height.
    arrows : sequence of Arrow
    spacing : Spacing

    Attributes
    ----------
    total : float
        Width, inches.
    rows : int
    trunks : list
        In the order in which they are best drawn: `routes` gives their corners.
    """

    def __init__(self, places: Sequence[Place], arrows: Sequence[Arrow], spacing: Spacing) -> None:
        self.spacing = spacing
        self.places = {b.name: b for b in places}
        self.columns = 1 + max(b.column for b in places)
        self.rows = math.ceil(max(b.row + b.rows for b in places))
        self.total = 0.0
        for b in places:
            top, bottom = self.edge(b.row), self.edge(b.row + b.rows)
            b.y, b.height = (top + bottom) / 2, top - bottom - spacing.between
        self.trunks = self._gather(arrows)
        self._choose_tracks()
        self._choose_ports()
        self._choose_lanes()

    def routes(self) -> Iterable[tuple[int, Arrow, tuple[Point, ...]]]:
        """Number of the trunk, arrow, and its corners from source to target, the far ones first."""
        ordered = sorted(self.trunks, key=lambda t: (t.gap is None, *t.order))
        for number, trunk in enumerate(ordered):
            for target in trunk.targets:
                yield number, Arrow(trunk.source, target, trunk.ink), tuple(self._route(trunk, target))

    def edge(self, row: float) -> float:
        """Height of the line above a row; between rows in proportion."""
        pitch = self.spacing.pitch
        if isinstance(pitch, float):
            return -row * pitch
        whole = min(int(row), len(pitch) - 1)
        return -sum(pitch[:whole]) - (row - whole) * pitch[whole]

    @property
    def heights(self) -> list[float]:
        """Of the tracks, for the margins."""
        return [t.track for t in self.trunks if t.gap is not None]

    def _gather(self, arrows: Sequence[Arrow]) -> list[_Trunk]:
        trunks: dict[tuple[str, Hashable, bool], _Trunk] = {}
        for a in arrows:
            back = self.places[a.target].column < self.places[a.source].column
            trunk = trunks.setdefault((a.source, a.ink, back), _Trunk(a.source, [], a.ink, back))
            trunk.targets.append(a.target)
        return list(trunks.values())

    def _gutter_out(self, trunk: _Trunk) -> int:
        return self.places[trunk.source].column + (not trunk.back)

    def _gutter_in(self, trunk: _Trunk, target: str) -> int:
        """The gutter from which a wire enters: left of a target ahead, right of one behind or beside."""
        column = self.places[target].column
        return column if column > self.places[trunk.source].column else column + 1

    def _gutters(self, trunk: _Trunk) -> list[int]:
        return sorted({self._gutter_out(trunk), *(self._gutter_in(trunk, t) for t in trunk.targets)})

    def _free(self, gap: int, first: int, last: int) -> bool:
        """Whether a track crosses neither a box nor the heading above the first box of a group."""
        return not any(
            first <= b.column < last and (b.row < gap < b.row + b.rows or (b.headed and gap == b.row))
            for b in self.places.values()
        )

    def _choose_tracks(self) -> None:
        load: dict[tuple[int, int], int] = defaultdict(int)
        far = [t for t in self.trunks if len(self._gutters(t)) > 1]
        for trunk in sorted(far, key=lambda t: (self._gutters(t)[-1] - self._gutters(t)[0], *t.order)):
            gutters = self._gutters(trunk)
            ends = [self.places[n].row + self.places[n].rows / 2 for n in (trunk.source, *trunk.targets)]
            crossed = range(gutters[0], gutters[-1])

            def cost(gap: int, ends: list[float] = ends, crossed: range = crossed) -> tuple[float, int]:
                crowd = max((load[gap, c] for c in crossed), default=0)
                return sum(abs(gap - e) for e in ends) / len(ends) + abs(
                    gap - ends[0]
                ) * 0.5 + 0.45 * crowd**1.5, gap

            trunk.gap = min(
                (g for g in range(self.rows + 1) if self._free(g, gutters[0], gutters[-1])), key=cost
            )
            for c in crossed:
                load[trunk.gap, c] += 1
        for gap in range(self.rows + 1):
            self._stack([t for t in far if t.gap == gap], gap)

    def _stack(self, trunks: list[_Trunk], gap: int) -> None:
        """Give each trunk of a gap a height of its own; trunks that do not meet share one."""
        levels: list[list[_Trunk]] = []
        for trunk in sorted(trunks, key=lambda t: (self._gutters(t)[0], *t.order)):
            first, last = self._gutters(trunk)[0], self._gutters(trunk)[-1]
            for level in levels:
                if all(last < self._gutters(o)[0] or self._gutters(o)[-1] < first for o in level):
                    level.append(trunk)
                    break
            else:
                levels.append([trunk])
        # Above the first row and below the last there is room without end, between rows there is not.
        lowest = 0 if gap == 0 else 1 - len(levels) if gap == self.rows else (1 - len(levels)) / 2
        for i, level in enumerate(levels):
            for trunk in level:
                trunk.track = self.edge(gap) + (lowest + i) * self.spacing.track

    def _height(self, trunk: _Trunk) -> float:
        """Whence a wire comes, for sorting the ports of a box."""
        return trunk.track if trunk.gap is not None else self.places[trunk.source].y

    def _choose_ports(self) -> None:
        arriving: dict[tuple[str, int], list[_Trunk]] = defaultdict(list)
        leaving: dict[tuple[str, bool], list[_Trunk]] = defaultdict(list)
        for trunk in self.trunks:
            leaving[trunk.source, trunk.back].append(trunk)
            for t in trunk.targets:
                arriving[t, self._gutter_in(trunk, t)].append(trunk)
        port = self.spacing.port
        for (target, gutter), trunks in arriving.items():
            box = self.places[target]
            exits = leaving.get((target, gutter == box.column), [])
            slots = len(trunks) + len(exits)
            spacing = min(port, (box.height - 0.08) / max(slots, 1))
            both = [(self._height(t), 0, t) for t in trunks]
            both += [(self._mean_target(t), 1, t) for t in exits]
            for i, (_, out, trunk) in enumerate(
                sorted(both, key=lambda item: (-item[0], item[1], item[2].order))
            ):
                y = box.y + ((slots - 1) / 2 - i) * spacing
                if out:
                    trunk.exit_y = y
                else:
                    trunk.ports[target] = y
        for (source, back), trunks in leaving.items():
            box = self.places[source]
            if (source, box.column + (not back)) not in arriving:
                spacing = min(port * 1.5, (box.height - 0.08) / len(trunks))
                for i, trunk in enumerate(sorted(trunks, key=lambda t: (-self._mean_target(t), t.order))):
                    trunk.exit_y = box.y + ((len(trunks) - 1) / 2 - i) * spacing

    def _mean_target(self, trunk: _Trunk) -> float:
        if trunk.gap is not None:
            return trunk.track
        return sum(self.places[t].y for t in trunk.targets) / len(trunk.targets)

    def _span(self, trunk: _Trunk, gutter: int) -> tuple[float, float]:
        ys = [trunk.ports[t] for t in trunk.targets if self._gutter_in(trunk, t) == gutter]
        if gutter == self._gutter_out(trunk):
            ys.append(trunk.exit_y)
        if trunk.gap is not None:
            ys.append(trunk.track)
        return min(ys), max(ys)

    def _choose_lanes(self) -> None:
        gutters = [self._lanes_of(gutter) for gutter in range(self.columns + 1)]
        self._set_lanes(gutters)
        if len(self.trunks) <= FEW:
            self._untangle(gutters)
            self._straighten()
        self._part_stubs()

    def _lanes_of(self, gutter: int) -> list[list[_Trunk]]:
        here = [t for t in self.trunks if gutter in self._gutters(t)]
        lanes: list[list[_Trunk]] = []
        for trunk in sorted(
            here, key=lambda t: (self._span(t, gutter)[0] - self._span(t, gutter)[1], *t.order)
        ):
            low, high = self._span(trunk, gutter)
            for lane in lanes:
                spans = [self._span(o, gutter) for o in lane]
                if all(high < a - 0.1 or b + 0.1 < low for a, b in spans):
                    lane.append(trunk)
                    break
            else:
                lanes.append([trunk])
        return lanes

    def _set_lanes(self, gutters: Sequence[Sequence[Sequence[_Trunk]]]) -> None:
        x = 0.0
        for gutter, lanes in enumerate(gutters):
            for i, lane in enumerate(lanes):
                for trunk in lane:
                    trunk.lanes[gutter] = x + self.spacing.margin + i * self.spacing.lane
            x += (len(lanes) - 1) * self.spacing.lane + 2 * self.spacing.margin if lanes else 0.1
            column = [b for b in self.places.values() if b.column == gutter]
            for b in column:
                b.x = x
            x += max((b.width for b in column), default=0.0)
        self.total = x

    def _untangle(self, gutters: list[list[list[_Trunk]]]) -> None:
        """Swap lanes, and ports of a side, as long as fewer wires cross."""
        best = self._crossings()
        for _ in range(SWEEPS):
            before = best
            for lanes in gutters:
                for i in range(len(lanes)):
                    for j in range(i):
                        lanes[i], lanes[j] = lanes[j], lanes[i]
                        self._set_lanes(gutters)
                        found = self._crossings()
                        if found < best:
                            best = found
                        else:
                            lanes[i], lanes[j] = lanes[j], lanes[i]
            self._set_lanes(gutters)
            best = self._swap_ports(best)
            if best == before:
                break

    def _part_stubs(self) -> None:
        """Move ports up or down where two wires would meet head on, one leaving a box and one entering another."""
        for _ in range(SWEEPS):
            stubs = [s for gutter in range(self.columns + 1) for s in self._stubs(gutter)]
            clashes = [(a, b) for i, a in enumerate(stubs) for b in stubs[:i] if a.meets(b)]
            if not clashes:
                return
            for a, b in clashes:
                if a.meets(b):
                    _ = self._moved(a, stubs) or self._moved(b, stubs)

    def _stubs(self, gutter: int) -> list[_Stub]:
        out = []
        for trunk in (t for t in self.trunks if gutter in t.lanes):
            ends = [(t, self.places[t]) for t in trunk.targets if self._gutter_in(trunk, t) == gutter]
            if self._gutter_out(trunk) == gutter:
                ends.append(("", self.places[trunk.source]))
            for target, box in ends:
                side = box.x if gutter == box.column else box.x + box.width
                low, high = sorted((side, trunk.lanes[gutter]))
                out.append(_Stub(trunk, target, box, gutter, low, high))
        return out

    def _moved(self, stub: _Stub, stubs: Sequence[_Stub]) -> bool:
        """Whether a port found a place nearby where it meets nothing and keeps its distance."""
        start, step = stub.y, self.spacing.port / 2
        beside = [s for s in stubs if s is not stub and (s.box, s.gutter) == (stub.box, stub.gutter)]
        for k in (1, -1, 2, -2, 3, -3, 4, -4, 5, -5, 6, -6):
            stub.y = start + k * step
            inside = abs(stub.y - stub.box.y) < stub.box.height / 2 - 0.05
            apart = all(abs(stub.y - s.y) > 0.9 * step for s in beside)
            if inside and apart and not any(stub.meets(s) for s in stubs):
                return True
        stub.y = start
        return False

    def _straighten(self) -> None:
        """Let a wire to a neighbour run straight where nothing else arrives at that side."""
        arriving: dict[tuple[str, int], list[tuple[_Trunk, str]]] = defaultdict(list)
        for trunk in self.trunks:
            for t in trunk.targets:
                arriving[t, self._gutter_in(trunk, t)].append((trunk, t))
        for (target, gutter), [(trunk, _), *others] in arriving.items():
            box = self.places[target]
            near = abs(trunk.exit_y - box.y) < box.height / 2 - self.spacing.port
            if not others and near and len(self._gutters(trunk)) == 1 and gutter == box.column:
                before, best = trunk.ports[target], self._crossings()
                trunk.ports[target] = trunk.exit_y
                if self._crossings() > best:
                    trunk.ports[target] = before

    def _swap_ports(self, best: int) -> int:
        sides: dict[tuple[str, int], list[tuple[_Trunk, str]]] = defaultdict(list)
        for trunk in self.trunks:
            sides[trunk.source, self._gutter_out(trunk)].append((trunk, ""))
            for t in trunk.targets:
                sides[t, self._gutter_in(trunk, t)].append((trunk, t))
        for ports in sides.values():
            for i in range(len(ports)):
                for j in range(i):
                    self._swap(ports[i], ports[j])
                    found = self._crossings()
                    if found < best:
                        best = found
                    else:
                        self._swap(ports[i], ports[j])
        return best

    @staticmethod
    def _swap(one: tuple[_Trunk, str], other: tuple[_Trunk, str]) -> None:
        (a, at), (b, bt) = one, other
        first = a.ports[at] if at else a.exit_y
        second = b.ports[bt] if bt else b.exit_y
        for trunk, target, y in ((a, at, second), (b, bt, first)):
            if target:
                trunk.ports[target] = y
            else:
                trunk.exit_y = y

    def _crossings(self) -> int:
        """How often wires of different trunks cross or lie on each other; the latter counts for many."""
        level: list[tuple[int, float, float, float]] = []
        upright: list[tuple[int, float, float, float]] = []
        for number, trunk in enumerate(self.trunks):
            for target in trunk.targets:
                for (x0, y0), (x1, y1) in pairwise(self._route(trunk, target)):
                    if abs(x1 - x0) > TINY:
                        level.append((number, y0, min(x0, x1), max(x0, x1)))
                    elif abs(y1 - y0) > TINY:
                        upright.append((number, x0, min(y0, y1), max(y0, y1)))
        level, upright = list(dict.fromkeys(level)), list(dict.fromkeys(upright))
        met = {
            (n, m, round(y, 4), round(x, 4))
            for n, y, x0, x1 in level
            for m, x, y0, y1 in upright
            if n != m and x0 - TINY < x < x1 + TINY and y0 - TINY < y < y1 + TINY
        }
        return len(met) + ON_TOP * (_on_top(level) + _on_top(upright))

    def _route(self, trunk: _Trunk, target: str) -> list[Point]:
        """The corners of one arrow."""
        source, box = self.places[trunk.source], self.places[target]
        out, into = self._gutter_out(trunk), self._gutter_in(trunk, target)
        start = (source.x if trunk.back else source.x + source.width, trunk.exit_y)
        end = (box.x if into == box.column else box.x + box.width, trunk.ports[target])
        points = [start, (trunk.lanes[out], start[1])]
        if out != into:
            points += [(trunk.lanes[out], trunk.track), (trunk.lanes[into], trunk.track)]
        return [*points, (trunk.lanes[into], end[1]), end]


# Up to this many trunks the lanes are put in the order with the fewest crossings; counting them takes a millisecond.
FEW = 60
SWEEPS = 6
TINY = 1e-6
# Lines nearer than this look like one.
CLEAR = 0.02
ON_TOP = 20


def _on_top(lines: Sequence[tuple[int, float, float, float]]) -> int:
    """Pairs of different trunks that share a stretch of a line."""
    return sum(
        1
        for i, (n, at, low, high) in enumerate(lines)
        for m, other, start, stop in lines[:i]
        if n != m and abs(at - other) < 0.01 and min(high, stop) - max(low, start) > TINY
    )
