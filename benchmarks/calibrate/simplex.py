"""Finds a minimum of a function of several numbers without its slope (Nelder and Mead, 1965)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

STEP = 0.2
ROUNDS = 80

_Corner = npt.NDArray[np.float64]


def least(value: Callable[[Sequence[float]], float], start: Sequence[float]) -> list[float]:
    """Return a point near a start at which a function is least, after a fixed number of rounds."""

    def ranked(corners: list[_Corner]) -> list[tuple[float, _Corner]]:
        return [(value(corner.tolist()), corner) for corner in corners]

    first = np.array(start, np.float64)
    simplex = ranked([first, *(first + STEP * row for row in np.eye(len(start)))])
    for _ in range(ROUNDS):
        simplex.sort(key=lambda entry: entry[0])
        middle = np.mean([corner for _, corner in simplex[:-1]], axis=0)
        worst, far = simplex[-1]
        away, beyond, near = (middle + reach * (middle - far) for reach in (1.0, 2.0, -0.5))
        found = ranked([away])[0]
        if found[0] < simplex[0][0]:
            found = min(found, ranked([beyond])[0], key=lambda entry: entry[0])
        elif found[0] >= simplex[-2][0]:
            found = ranked([near])[0]
        if found[0] < worst:
            simplex[-1] = found
        else:
            best = simplex[0][1]
            simplex[1:] = ranked([best + 0.5 * (corner - best) for _, corner in simplex[1:]])
    return [float(place) for place in min(simplex, key=lambda entry: entry[0])[1]]
