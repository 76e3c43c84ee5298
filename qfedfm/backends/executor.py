"""From heads to machines: expectation values that torch can differentiate, wherever they come from.

An `Executor` stands where `quantum.simulate` stands in a head. Torch computes the angles of all clients and rows; the
executor puts every row, with the points that its gradient needs, into one submission, and hands back values whose
backward pass uses the derivatives that came with them. So a batch gradient of all clients is one job. It counts what
it runs and names each submission, so that a resumed run asks for the same ones.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import BackendError
from ..quantum.angles import Angles, Sizes
from ..quantum.program import Observable, Program
from ..seeds import stream
from .allocation import single_shot_spread
from .contract import Array, Differentiable, Machine, Measured, ShotCounts
from .flat import Flat, flatten
from .gradients import AllotsShots, Gradient, ParameterShift, Points


@dataclass(frozen=True)
class Usage:
    """What was run for one client: circuits, shots over all of them, its share of the billed seconds."""

    executions: int = 0
    shots: int = 0
    qpu_seconds: float = 0.0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.executions + other.executions, self.shots + other.shots, self.qpu_seconds + other.qpu_seconds)


class Executor:
    """Runs the circuits of heads on one machine.

    shots: of a row in each measurement setting; None for exact values. gradient: how derivatives are found; None lets
    torch differentiate a machine that it can, and shifts parameters on any other. seed: of the points of `gradient`.
    jobs: submissions so far.
    """

    def __init__(
        self, machine: Machine, shots: int | None = None, gradient: Gradient | None = None, seed: int = 0
    ) -> None:
        self.machine, self.shots, self.seed = machine, shots, seed
        self.through_torch = gradient is None and shots is None and isinstance(machine, Differentiable)
        self.gradient: Gradient = gradient or ParameterShift()
        self._compiled: dict[tuple[Flat, tuple[Observable, ...]], Any] = {}
        self._mask: Tensor | None = None
        self._held: Sequence[tuple[Tensor, Tensor]] = ()
        self._task, self._number = "", 0
        self._usage: list[Usage] = []
        self._spread: dict[tuple[Flat, tuple[Observable, ...]], Array] = {}
        self.jobs = 0

    @contextmanager
    def task(self, name: str) -> Iterator[None]:
        """Name the submissions inside: "name/1", "name/2" ..., each followed by a hash of what it holds.

        What was learnt about variances is forgotten, so that a task depends on nothing before it.
        """
        before = self._task, self._number
        self._task, self._number, self._spread = name, 0, {}
        try:
            yield
        finally:
            self._task, self._number = before

    @contextmanager
    def only(self, mask: Tensor) -> Iterator[None]:
        """Run only the rows where mask (C, R) is True; the values of the others are 0."""
        self._mask = mask
        try:
            yield
        finally:
            self._mask = None

    @contextmanager
    def holding(self, weights: Sequence[tuple[Tensor, Tensor]]) -> Iterator[None]:
        """Find no derivatives by some entries of weights, which are 0: pairs of a tensor (C, *) and a mask (*)."""
        self._held = weights
        try:
            yield
        finally:
            self._held = ()

    def take_usage(self) -> list[Usage]:
        """Return what was run for each client since the last call, and start counting anew; empty if nothing was."""
        usage, self._usage = self._usage, []
        return usage

    def __call__(
        self,
        program: Program,
        inputs: Mapping[str, Tensor],
        weights: Mapping[str, Tensor],
        observables: Sequence[Observable],
    ) -> Tensor:
        """Return expectation values (C, R, K), as `quantum.simulate` does for the same arguments."""
        if self.through_torch:
            assert isinstance(self.machine, Differentiable)
            values = self.machine.execute(program, dict(inputs), dict(weights), observables)
            self._add(Usage(int(rows)) for rows in self._rows(values.shape[0], values.shape[1]).sum(1))
            return values
        flat = flatten(program, tuple(observables))
        angles = _angles(program, flat, inputs, weights)
        chosen = self._rows(*angles.shape[:2])
        rows = angles.flatten(0, 1)[torch.from_numpy(chosen.ravel()).to(angles.device)]
        live = _live(program, flat, inputs, weights, self._held)
        array, owners = rows.detach().double().cpu().numpy(), chosen.nonzero()[0]
        measured, points, ran = self._measure(flat, tuple(observables), array, live, owners)
        found = measured.values.reshape(len(rows), -1, len(observables))
        self._count(measured, chosen, ran)
        own = torch.from_numpy(found[:, 0]).to(angles)
        if points is not None:
            jacobian = torch.from_numpy(points.jacobian(found[:, 1:])).to(angles)
            own = _WithJacobian.apply(rows, own, jacobian)  # type: ignore[no-untyped-call]  # so typed by torch
        places = torch.from_numpy(chosen.ravel()).nonzero()[:, 0].to(own.device)
        values = own.new_zeros(chosen.size, len(observables)).index_put((places,), own)
        return values.view(*chosen.shape, -1)

    def with_variances(
        self,
        program: Program,
        inputs: Mapping[str, Tensor],
        weights: Mapping[str, Tensor],
        observables: Sequence[Observable],
    ) -> tuple[Tensor, Tensor]:
        """Return values (C, R, K) and the variances of these estimates, without derivatives, of every row."""
        flat = flatten(program, tuple(observables))
        with torch.no_grad():
            angles = _angles(program, flat, inputs, weights)
        chosen = np.ones(angles.shape[:2], dtype=bool)
        rows, none = angles.flatten(0, 1).double().cpu().numpy(), np.zeros(len(flat.source), dtype=bool)
        measured, _, ran = self._measure(flat, tuple(observables), rows, none, chosen.nonzero()[0])
        self._count(measured, chosen, ran)
        shape = (*angles.shape[:2], -1)
        values, variances = (torch.from_numpy(found).to(angles) for found in (measured.values, measured.variances))
        return values.view(shape), variances.view(shape)

    def _measure(
        self,
        flat: Flat,
        observables: tuple[Observable, ...],
        rows: Array,
        live: NDArray[np.bool_],
        owners: NDArray[np.int64],
    ) -> tuple[Measured, Points | None, NDArray[np.bool_]]:
        """Run rows of angles (n, slots), each followed by the points of its gradient, as one submission.

        owners: (n,) each row's client. Returns also which points were run, (n, 1 + S); values of the others are 0.
        """
        circuit = flat, observables
        if circuit not in self._compiled:
            self._compiled[circuit] = self.machine.compile(flat.program, observables)
        self._number += 1
        name, points = f"{self._task}/{self._number}", None
        block, counts = rows[:, None, :], None
        if live.any():
            points = self.gradient.points(flat, live, len(rows), stream(self.seed, "gradient", name))
            block = np.concatenate([block, block + points.offsets], axis=1)
            points, counts = self._allot(points, circuit, owners, name)
        ran = np.ones(block.shape[:2], dtype=bool) if counts is None else counts > 0
        angles = block[ran]
        shots: ShotCounts = self.shots if counts is None else counts[ran]
        content = flat.program.hash.encode() + repr(observables).encode() + angles.astype("<f8").tobytes()
        if counts is not None:
            content += counts.astype("<i8").tobytes()
        key = f"{name}/{hashlib.sha256(content).hexdigest()[:16]}"
        measured = self.machine.collect(self.machine.submit(self._compiled[circuit], angles, shots, key))
        if counts is None:
            return measured, points, ran
        if ran.all():
            self._spread[circuit] = _spread_of_clients(measured.variances, counts, owners)
        values, variances = (np.zeros((ran.size, len(observables))) for _ in range(2))
        places, spent = ran.ravel(), np.zeros(ran.size, dtype=np.int64)
        values[places], variances[places], spent[places] = measured.values, measured.variances, measured.shots
        return Measured(values, variances, spent, measured.cost, measured.metadata), points, ran

    def _allot(
        self, points: Points, circuit: tuple[Flat, tuple[Observable, ...]], owners: NDArray[np.int64], name: str
    ) -> tuple[Points, NDArray[np.int64] | None]:
        """Return the points of a gradient with the shots of each row and point (n, 1 + S); None where all are equal."""
        if not isinstance(self.gradient, AllotsShots) or self.shots is None:
            return points, None
        known = self._spread.get(circuit)
        fits = known is not None and known.shape[1] == points.weights.shape[2] and owners.max(initial=0) < len(known)
        spread = known[owners] if known is not None and fits else None
        generator = stream(self.seed, "allocation", name)
        allotted = self.gradient.allot(points, self.shots, len(owners), spread, generator)
        if allotted is None:
            return points, None
        own = np.full((len(owners), 1), self.shots)
        weighed = Points(points.offsets, points.weights * allotted.factors[:, None, :])
        return weighed, np.concatenate([own, allotted.shots], axis=1)

    def _rows(self, clients: int, rows: int) -> NDArray[np.bool_]:
        """Return which rows (C, R) are to be run."""
        if self._mask is None:
            return np.ones((clients, rows), dtype=bool)
        if tuple(self._mask.shape) != (clients, rows):
            raise BackendError(
                f"a circuit is run for {(clients, rows)} clients and rows where {tuple(self._mask.shape)} were "
                "announced: heads on a machine call each circuit once for every client and row"
            )
        return self._mask.cpu().numpy()

    def _count(self, measured: Measured, chosen: NDArray[np.bool_], ran: NDArray[np.bool_]) -> None:
        """Count a submission in which each chosen row (C, R) stood for those of its points that `ran` (n, 1 + S)."""
        cost, points_run = measured.cost, max(1, int(ran.sum()))
        settings, of_point = cost.circuits // points_run, cost.qpu_seconds / points_run
        shots, points = (np.zeros(chosen.shape, dtype=np.int64) for _ in range(2))
        shots[chosen] = measured.shots.reshape(ran.shape).sum(1)
        points[chosen] = ran.sum(1)
        self.jobs += cost.jobs
        self._add(
            Usage(int(some) * settings, int(spent), float(some * of_point))
            for some, spent in zip(points.sum(1), shots.sum(1), strict=True)
        )

    def _add(self, usage: Iterable[Usage]) -> None:
        new = list(usage)
        known = self._usage or [Usage()] * len(new)
        self._usage = [before + more for before, more in zip(known, new, strict=True)]


def _angles(program: Program, flat: Flat, inputs: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> Tensor:
    """Return the angle of every flat slot, (C, R, slots)."""
    tensors = [*inputs.values(), *weights.values()]
    clients = len(tensors[0]) if tensors else 1
    rows = next(iter(inputs.values())).shape[1] if inputs else 1
    if not len(flat.source):
        return torch.zeros(clients, rows, 0, dtype=tensors[0].dtype if tensors else None)
    sizes = (
        tuple((name, math.prod(tensor.shape[lead:])) for name, tensor in some.items())
        for some, lead in ((inputs, 2), (weights, 1))
    )
    values = _compiled_angles(program, *sizes)(inputs, weights)  # (C, slots of the program, R or 1)
    return values[:, torch.from_numpy(flat.source)].expand(-1, -1, rows).transpose(1, 2)


@lru_cache(maxsize=256)
def _compiled_angles(program: Program, inputs: Sizes, weights: Sizes) -> Angles:
    return Angles(program.slots, inputs, weights)


def _live(
    program: Program,
    flat: Flat,
    inputs: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    held: Sequence[tuple[Tensor, Tensor]],
) -> NDArray[np.bool_]:
    """Return for each flat slot whether torch wants its derivative, (slots,)."""
    wanted = {
        (op, name)
        for op, some in (("input", inputs), ("weight", weights))
        for name, tensor in some.items()
        if torch.is_grad_enabled() and tensor.requires_grad
    }
    still = {
        ("weight", name, place)
        for name, tensor in weights.items()
        for own, mask in held
        if own is tensor
        for place in mask.flatten().nonzero()[:, 0].tolist()
    }
    slots = [
        any((leaf.op, leaf.args[0]) in wanted and (leaf.op, *leaf.args) not in still for leaf in slot.leaves())
        for slot in program.slots
    ]
    return np.array([slots[number] for number in flat.source], dtype=bool)


def _spread_of_clients(variances: Array, counts: NDArray[np.int64], owners: NDArray[np.int64]) -> Array:
    """Return how much one shot of each point varies, mean over each client's rows (C, S); counts: (n, 1 + S)."""
    spread = single_shot_spread(variances, counts.ravel()).reshape(counts.shape)[:, 1:]
    clients = int(owners.max(initial=0)) + 1
    sums, rows = np.zeros((clients, spread.shape[1])), np.bincount(owners, minlength=clients)[:, None]
    np.add.at(sums, owners, spread)
    return np.asarray(np.where(rows > 0, sums / np.maximum(rows, 1), 1.0))


class _WithJacobian(torch.autograd.Function):
    """Values that are known together with their derivatives by the angles."""

    @staticmethod
    def forward(ctx: Any, angles: Tensor, values: Tensor, jacobian: Tensor) -> Tensor:  # noqa: ARG004
        """Return values (n, K) of angles (n, slots); jacobian: (n, K, slots)."""
        ctx.save_for_backward(jacobian)
        return values.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient by the angles."""
        (jacobian,) = ctx.saved_tensors
        return torch.einsum("nk,nkj->nj", grads[0], jacobian), None, None
