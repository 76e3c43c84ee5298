"""Dead time and after-pulsing, applied to the sequence of clicks.

A click blinds both detectors for `dead_gates` gates (non-paralysable: what falls into them is lost and prolongs
nothing). That both are blind keeps the key free of the correlations that arise when one detector sleeps and the other
does not (Rogers et al. 2007, doi:10.1088/1367-2630/9/9/319). With probability p_ap a click is followed by one more in
the same detector, at the first gate after the dead time; after-pulses have none of their own, as in the gain
D (1 + p_ap) of Lim et al. 2014. Departure from their formula, which books after-pulses to the intensity of the click
that caused them: here they fall on whatever pulse comes next, so weak intensities get more of them than theirs.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Gates = NDArray[np.int64]
Masks = NDArray[np.uint8]
"""Which detectors clicked: 1 for that of bit 0, 2 for that of bit 1, 3 for both."""


@dataclass(frozen=True)
class Awake:
    """What the detectors remember between stretches of gates.

    ready: the first gate at which they can click again. due: gates and masks of after-pulses that have yet to come.
    """

    ready: int = 0
    due: Gates = field(default_factory=lambda: np.zeros(0, np.int64))
    masks: Masks = field(default_factory=lambda: np.zeros(0, np.uint8))


def detect(
    gates: Gates, masks: Masks, follows: NDArray[np.bool_], blind: int, awake: Awake
) -> tuple[NDArray[np.intp], Awake]:
    """Return which of the would-be clicks happen, and what the detectors remember after them.

    gates: (n,), rising, where light or darkness would make a click; masks: (n,). follows: (n,), whether an after-pulse
    follows if the click happens. blind: dead gates + 1, the least distance of two clicks. The indices are rising; `due`
    holds all after-pulses that the caller has yet to place, those among these gates included.
    """
    first = int(np.searchsorted(gates, awake.ready))
    free = gates[first:] + blind * (1 + follows[first:])  # when a click there lets the next one happen
    happens = _happening(gates[first:], free) + first
    if not happens.size:
        return happens, awake
    followed = happens[follows[happens]]
    return happens, Awake(
        int(free[happens[-1] - first]),
        np.concatenate([awake.due, gates[followed] + blind]),
        np.concatenate([awake.masks, masks[followed]]),
    )


def _happening(gates: Gates, free: Gates) -> NDArray[np.intp]:
    """Return the indices of the clicks that happen, each being the first that the one before lets happen."""
    if (free - gates == 1).all():
        return np.arange(gates.size)
    sure = np.ones(gates.size + 1, dtype=bool)  # whatever happened before: none of the clicks before reach this gate
    sure[1:-1] = np.maximum.accumulate(free[:-1]) <= gates[1:]
    if sure.all():
        return np.arange(gates.size)
    following = np.searchsorted(gates, free)
    happens = sure[:-1].copy()
    crowds = np.flatnonzero(happens & ~sure[following])
    after, certain = following.tolist(), sure.tolist()
    found = []
    for index in crowds.tolist():
        nearest = after[index]
        while not certain[nearest]:
            found.append(nearest)
            nearest = after[nearest]
    happens[found] = True
    return np.flatnonzero(happens)
