"""Path finding around cells that are not walkable: for every pair of cells of a map, the next waypoint from one to the other."""

import numpy as np
from numba import njit

from inspo_benchmark.envs.smac.maps import MAP_SIZE

STRAIGHT, DIAGONAL = 10, 14  # lengths of the steps between neighboring cells, tenths of a cell
SAMPLE, MARGIN = 0.25, 0.25  # a line is free if points this far apart are, with this margin on each side; cells
UNREACHABLE = 1 << 30  # path length


def waypoints(free: np.ndarray) -> np.ndarray:
    """free [x, y] bool -> [from, to] int16 over cells x * MAP_SIZE + y: the cell to head for on the way from one cell to another.

    It is the destination itself if the straight line to it is free, otherwise the last cell on a shortest path to which a straight line
    is free. The way to an unreachable cell leads to the nearest reachable one. If all lines are free, the result is [[0]].
    """
    lines = _lines(free)
    cells = free.ravel()
    if lines[np.ix_(cells, cells)].all():
        return np.zeros((1, 1), np.int16)
    return _waypoints(free, lines)


@njit(cache=True)
def _lines(free):
    """[cell, cell] bool: the straight line between their centers is free."""
    out = np.zeros((MAP_SIZE * MAP_SIZE, MAP_SIZE * MAP_SIZE), np.bool_)
    for a in range(MAP_SIZE * MAP_SIZE):
        ax, ay = a // MAP_SIZE, a % MAP_SIZE
        if free[ax, ay]:
            for b in range(a, MAP_SIZE * MAP_SIZE):
                bx, by = b // MAP_SIZE, b % MAP_SIZE
                if free[bx, by]:
                    steps = int(max(abs(bx - ax), abs(by - ay)) / SAMPLE)
                    clear = True
                    for k in range(1, steps):
                        x, y = ax + 0.5 + (bx - ax) * k / steps, ay + 0.5 + (by - ay) * k / steps
                        for dx in (-MARGIN, MARGIN):
                            for dy in (-MARGIN, MARGIN):
                                clear = clear and free[int(x + dx), int(y + dy)]
                        if not clear:
                            break
                    out[a, b] = out[b, a] = clear
    return out


@njit(cache=True)
def _lengths(free, goal, length, queue):
    """Write the lengths of the shortest paths from all cells to `goal`; diagonal steps do not cut corners."""
    length[:] = UNREACHABLE
    length[goal] = 0
    queue[0], first, last, queued = goal, 0, 1, np.zeros(MAP_SIZE * MAP_SIZE, np.bool_)
    while first != last:
        cell = queue[first % len(queue)]
        first += 1
        queued[cell] = False
        x, y = cell // MAP_SIZE, cell % MAP_SIZE
        for dx in range(-1, 2):
            for dy in range(-1, 2):
                u, v = x + dx, y + dy
                if 0 <= u < MAP_SIZE and 0 <= v < MAP_SIZE and free[u, v] and free[u, y] and free[x, v]:
                    to = u * MAP_SIZE + v
                    total = length[cell] + (DIAGONAL if dx != 0 and dy != 0 else STRAIGHT)
                    if total < length[to]:
                        length[to] = total
                        if not queued[to]:
                            queued[to] = True
                            queue[last % len(queue)] = to
                            last += 1


@njit(cache=True)
def _neighbor(free, length, cell):
    """The neighbor of a cell with the shortest path to the goal."""
    x, y, best = cell // MAP_SIZE, cell % MAP_SIZE, cell
    for u in range(max(x - 1, 0), min(x + 2, MAP_SIZE)):
        for v in range(max(y - 1, 0), min(y + 2, MAP_SIZE)):
            if free[u, v] and free[u, y] and free[x, v] and length[u * MAP_SIZE + v] < length[best]:
                best = u * MAP_SIZE + v
    return best


@njit(cache=True)
def _waypoints(free, lines):
    cells = MAP_SIZE * MAP_SIZE
    out, reachable = np.empty((cells, cells), np.int16), np.zeros((cells, cells), np.bool_)
    length, queue = np.empty(cells, np.int64), np.empty(cells, np.int64)
    out[:] = np.arange(cells)
    for goal in range(cells):
        if free[goal // MAP_SIZE, goal % MAP_SIZE]:
            _lengths(free, goal, length, queue)
            for start in range(cells):
                reachable[start, goal] = length[start] < UNREACHABLE
                if reachable[start, goal] and not lines[start, goal]:
                    over = _neighbor(free, length, start)
                    ahead = _neighbor(free, length, over)
                    while lines[start, ahead]:
                        over, ahead = ahead, _neighbor(free, length, ahead)
                    out[start, goal] = over
    for start in range(cells):  # towards an unreachable cell: to the nearest reachable one, then straight on
        if reachable[start, start]:
            for goal in range(cells):
                if not reachable[start, goal]:
                    best, least = start, UNREACHABLE
                    for cell in range(cells):
                        dx, dy = cell // MAP_SIZE - goal // MAP_SIZE, cell % MAP_SIZE - goal % MAP_SIZE
                        if reachable[start, cell] and dx * dx + dy * dy < least:
                            best, least = cell, dx * dx + dy * dy
                    if out[start, best] != best:
                        out[start, goal] = out[start, best]
    return out
