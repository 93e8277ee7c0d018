"""Ways around what cannot be walked on: from every cell of a map to every other, the cell to head for next."""

import numpy as np
from numba import njit

from inspo_benchmark.envs.smac.maps import SIZE

STRAIGHT, DIAGONAL = 10, 14  # lengths of the steps between neighbouring cells, in tenths
SAMPLE, MARGIN = 0.25, 0.25  # a straight line is free if these points of it are, with this much to each side
FAR = 1 << 30


def waypoints(free: np.ndarray) -> np.ndarray:
    """free [x, y] bool -> [SIZE**2, SIZE**2] int16 over cells x * SIZE + y: where to go from a cell in order to reach another.

    That is the other cell itself if a straight line to it is free, and otherwise the last cell on a shortest path to which one is.
    Towards cells that cannot be reached the way is that to the nearest one that can. Where all lines are free: [1, 1].
    """
    lines = _lines(free)
    cells = free.ravel()
    if lines[np.ix_(cells, cells)].all():
        return np.zeros((1, 1), np.int16)
    return _waypoints(free, lines)


@njit(cache=True)
def _lines(free):
    """[cell, cell] bool: the straight line between their centres is free."""
    out = np.zeros((SIZE * SIZE, SIZE * SIZE), np.bool_)
    for a in range(SIZE * SIZE):
        ax, ay = a // SIZE, a % SIZE
        if free[ax, ay]:
            for b in range(a, SIZE * SIZE):
                bx, by = b // SIZE, b % SIZE
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
    """Lengths of the shortest paths from all cells to `goal`, diagonal steps only between free neighbours."""
    length[:] = FAR
    length[goal] = 0
    queue[0], first, last, waiting = goal, 0, 1, np.zeros(SIZE * SIZE, np.bool_)
    while first != last:
        cell = queue[first % len(queue)]
        first += 1
        waiting[cell] = False
        x, y = cell // SIZE, cell % SIZE
        for dx in range(-1, 2):
            for dy in range(-1, 2):
                u, v = x + dx, y + dy
                if 0 <= u < SIZE and 0 <= v < SIZE and free[u, v] and free[u, y] and free[x, v]:
                    to = u * SIZE + v
                    way = length[cell] + (DIAGONAL if dx != 0 and dy != 0 else STRAIGHT)
                    if way < length[to]:
                        length[to] = way
                        if not waiting[to]:
                            waiting[to] = True
                            queue[last % len(queue)] = to
                            last += 1


@njit(cache=True)
def _neighbour(free, length, cell):
    """The neighbour of a cell that is nearest to the goal."""
    x, y, best = cell // SIZE, cell % SIZE, cell
    for u in range(max(x - 1, 0), min(x + 2, SIZE)):
        for v in range(max(y - 1, 0), min(y + 2, SIZE)):
            if free[u, v] and free[u, y] and free[x, v] and length[u * SIZE + v] < length[best]:
                best = u * SIZE + v
    return best


@njit(cache=True)
def _waypoints(free, lines):
    cells = SIZE * SIZE
    out, joined = np.empty((cells, cells), np.int16), np.zeros((cells, cells), np.bool_)
    length, queue = np.empty(cells, np.int64), np.empty(cells, np.int64)
    out[:] = np.arange(cells)
    for goal in range(cells):
        if free[goal // SIZE, goal % SIZE]:
            _lengths(free, goal, length, queue)
            for start in range(cells):
                joined[start, goal] = length[start] < FAR
                if joined[start, goal] and not lines[start, goal]:
                    over = _neighbour(free, length, start)
                    ahead = _neighbour(free, length, over)
                    while lines[start, ahead]:
                        over, ahead = ahead, _neighbour(free, length, ahead)
                    out[start, goal] = over
    for start in range(cells):  # towards what cannot be reached: to the nearest cell that can be, and from there straight on
        if joined[start, start]:
            for goal in range(cells):
                if not joined[start, goal]:
                    best, least = start, FAR
                    for cell in range(cells):
                        dx, dy = cell // SIZE - goal // SIZE, cell % SIZE - goal % SIZE
                        if joined[start, cell] and dx * dx + dy * dy < least:
                            best, least = cell, dx * dx + dy * dy
                    if out[start, best] != best:
                        out[start, goal] = out[start, best]
    return out
