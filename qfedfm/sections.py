"""The parts that reports of runs, comparisons and sweeps have in common, each made from plain tables.

Who failed, how evenly the clients are served, what is confused, how the rows were dealt out, what the circuits are.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from . import plots
from .backends import Exact
from .evidence import METRICS, fairness
from .experiment import Experiment, pieces
from .heads import HoldsCircuit
from .quantum import Circuit
from .quantum.drawing import draw_for_page
from .quantum.lightcone import dead_weights
from .report import Picture, Section, environment_rows, picture
from .svg import canvas

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

By = Literal["classes", "domains"]
KINDS: dict[By, str] = {"classes": "class", "domains": "domain"}
Events = Sequence[Mapping[str, Any]]
SHOWN_CLIENTS = 12  # in a table; of more, those served worst
DRAWN_GATES = 160  # a circuit with more is described and not drawn


def limits(experiment: Experiment, circuits: Sequence[Circuit]) -> tuple[str, ...]:
    """Return what no result of this experiment shows, whatever it says."""
    backend, keys = experiment.backend, experiment.seal.keys.source
    if not circuits:
        machine: tuple[str, ...] = ()
    elif isinstance(backend, Exact):
        machine = (
            "The circuit is simulated exactly, without noise or shots: a real machine has both, and takes far longer.",
        )
    else:
        machine = (f"The circuit ran on {backend!r}: another machine or another day may give other values.",)
    return (
        "One data set, one partition and one backbone: another task may turn out otherwise.",
        *machine,
        "No speed-up is claimed: a circuit of this size is easily simulated by a classical computer.",
        "The server sees every update in clear after opening it; sealing protects the links only.",
        *(["Quantum key distribution is simulated: its keys protect nothing."] if keys == "qkd-simulated" else []),
    )


def environment(recorded: Mapping[str, Any], experiment: Experiment, circuits: Sequence[Circuit]) -> dict[str, str]:
    """Return what was recorded of an environment as label and text, with what ran the circuits."""
    exact = isinstance(experiment.backend, Exact)
    ran = "no circuit" if not circuits else recorded.get("backend") if exact else repr(experiment.backend)
    return environment_rows({**recorded, "backend": ran})


def failures(events: Events) -> tuple[Section, ...]:
    """Return who was left out of a round and why, and when the run itself stopped; nothing where all went well."""
    import pandas as pd

    found = []
    left_out = {(e["round"], e["client"]): e for e in events if e["event"] == "excluded"}  # a repeated round once
    if left_out:
        table = pd.DataFrame([{name: e[name] for name in ("round", "client", "reason")} for e in left_out.values()])
        clients, rounds = table["client"].nunique(), table["round"].nunique()
        text = (
            f"{plots.count(clients, 'client')} failed in {plots.count(rounds, 'round')}. They were chosen and could "
            "not take part; the round went on without them, never in clear."
        )
        found.append(Section("Excluded", text, table=table))
    stops = [e for e in events if e["event"] == "stopped"]
    if stops:
        rows = [{"time": e["time"], "after round": e["round"], "reason": e["reason"]} for e in stops]
        text = "The run was stopped and resumed from the last round that was whole; keys were drawn anew."
        found.append(Section("Interruptions", text, table=pd.DataFrame(rows)))
    callbacks = [e for e in events if e["event"] == "callback failed"]
    if callbacks:
        names = ("callback", "during", "reason")
        table = pd.DataFrame([{name: e.get(name) for name in names} for e in callbacks])
        found.append(Section("Callbacks that failed", "They watched the run and changed nothing in it.", table=table))
    return tuple(found)


def clients(frame: "pd.DataFrame", metric: str, table: "pd.DataFrame", of: str) -> Section:
    """Return how evenly clients are served.

    frame: columns rule, seed, client and `metric`, as `plots.client_spread` takes them. table: a row for each client,
    the worst of which are shown. of: what the metric was measured on, for the text.
    """
    import pandas as pd

    label, better = METRICS[metric].label, METRICS[metric].higher_is_better
    frame = frame.dropna(subset=[metric])
    sentences = []
    for rule, rows in frame.groupby("rule", sort=False):
        each = pd.DataFrame([asdict(fairness(one[metric], better)) for _, one in rows.groupby("seed")]).mean()
        name = f"{str(rule)[:1].upper()}{str(rule)[1:]}: mean" if frame["rule"].nunique() > 1 else "Mean"
        sentences.append(
            f"{name} {each['mean']:.3f}, standard deviation over clients {each['spread']:.3f}, worst tenth "
            f"{each['worst_decile']:.3f}, best tenth {each['best_decile']:.3f}."
        )
    mean = table[[c for c in table.columns if c in (metric, *frame["rule"].unique())]].mean(axis=1)
    worst = table.loc[mean.sort_values(ascending=better, kind="stable").index].head(SHOWN_CLIENTS)
    rest = f" Of {len(table)} clients, the {len(worst)} served worst:" if len(worst) < len(table) else " Worst first:"
    pictures: tuple[Picture, ...] = ()
    if len(frame):
        ax = plots.client_spread(frame.rename(columns={metric: label}), label, canvas())
        pictures = (picture(ax, f"{label} of each client, sorted"),)
    worst = worst.rename(columns={name: kind.label for name, kind in METRICS.items()})
    return Section("Each client", f"The {label} {of}. {' '.join(sentences)}{rest}", pictures, worst)


def confusion_table(counts: Any, classes: Sequence[str]) -> "pd.DataFrame":
    """Return recorded counts, (true class, predicted class), as a table."""
    import pandas as pd

    return pd.DataFrame(counts, index=pd.Index(classes, name="true"), columns=pd.Index(classes, name="predicted"))


def reliability_table(recorded: Mapping[str, Any]) -> "pd.DataFrame":
    """Return recorded bins of confidence as a table: low, high, rows, mean confidence and accuracy (NaN of no rows)."""
    import pandas as pd

    bins = pd.DataFrame(recorded)
    edges = np.arange(len(bins) + 1) / len(bins)
    means = {"confidence": bins["confidence"] / bins["rows"], "accuracy": bins["right"] / bins["rows"]}
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "rows": bins["rows"], **means})


def judged(tables: Mapping[str, tuple["pd.DataFrame", "pd.DataFrame"]], of: str) -> tuple[Section, ...]:
    """Return what is taken for what, and whether confidence is earned; tables: name to confusion and reliability."""
    if not tables:
        return ()
    pictures: list[Picture] = []
    for name, (confusion, reliability) in tables.items():
        before = f"{name}: " if len(tables) > 1 else ""
        classes = len(confusion)
        side = min(6.4, max(3.4, 2.0 + 0.5 * classes))
        drawn = plots.confusion(confusion, canvas((side, max(2.8, 0.8 * side))))
        pictures.append(picture(drawn, f"{before}confusion of the test rows", f"{before}what was taken for what"))
        drawn = plots.reliability(reliability, canvas((3.4, 3.2)))
        pictures.append(picture(drawn, f"{before}reliability diagram", f"{before}how often it was right when so sure"))
    text = f"{of} On the diagonal of the second picture a confidence of 80 % is right in 80 % of the rows."
    return (Section("Confusion and calibration", text, tuple(pictures)),)


def dealt(counts: "pd.DataFrame", by: By) -> "pd.DataFrame":
    """Return a table of clients (index) by part and class or domain (columns), from what a partition.csv holds."""
    key = KINDS[by]
    table = counts.pivot_table(index="client", columns=["part", key], values="rows", aggfunc="sum", fill_value=0)
    kinds = counts[key].unique().tolist()  # classes in their own order
    order = [(part, one) for part in counts["part"].unique() for one in (kinds if by == "classes" else sorted(kinds))]
    return table.reindex(columns=order, fill_value=0).rename_axis(columns=["part", by])


def partition(counts: "pd.DataFrame | None", of: str) -> tuple[Section, ...]:
    """Return how the rows were dealt to the clients, by class and, if there are several, by domain."""
    import pandas as pd

    if counts is None:
        return ()
    pictures = []
    for by in KINDS:
        frame = pd.DataFrame(dealt(counts, by)["train"])
        if by == "domains" and frame.shape[1] < 2:
            continue
        ax = plots.partition(frame, canvas(plots.partition_size(len(frame))))
        what = "training rows" if frame.shape[1] < 2 else f"training rows by {KINDS[by]}"
        pictures.append(picture(ax, f"{what} of each client", what))
    total = counts.groupby("part", sort=False)["rows"].sum()
    text = f"{of} {', '.join(f'{rows} {part}' for part, rows in total.items())} rows in all."
    return (Section("Partition", text, tuple(pictures)),)


def held(experiment: Experiment) -> tuple[Circuit, ...]:
    """Return every circuit that an experiment's head holds."""
    return tuple(piece.resolve() for piece in pieces(experiment) if isinstance(piece, HoldsCircuit))


def circuit(circuits: Mapping[str, Sequence[Circuit]]) -> tuple[Section, ...]:
    """Return what the circuits of some heads are and need; nothing where there are none. circuits: by head."""
    import pandas as pd

    rows, pictures, seen = [], [], set()
    for name, several in circuits.items():
        for one in several:
            program = one.program
            dead = sum(int(entries.sum()) for entries in dead_weights(program, one.observables).values())
            rows.append(
                {
                    **({"arm": name} if len(circuits) > 1 else {}),
                    "circuit": one.name,
                    "qubits": program.n_wires,
                    "depth": program.depth,
                    "gates": ", ".join(f"{count} {gate}" for gate, count in program.count_gates().items()),
                    "read out": f"{len(one.observables)} values",
                    "parameters, live": program.n_parameters - dead,
                    "parameters, dead": dead,
                }
            )
            if one not in seen and len(program.gates) <= DRAWN_GATES:
                pictures.append(_drawing(one))
            seen.add(one)
    if not rows:
        return ()
    text = (
        "In the boxes x are inputs and w weights. A dead parameter cannot change any value that is read out and is "
        "never trained."
    )
    if len(pictures) < len(seen):
        text += f" Circuits of more than {DRAWN_GATES} gates are not drawn."
    return (Section("Circuit", text, tuple(pictures), pd.DataFrame(rows)),)


def _drawing(one: Circuit) -> Picture:
    caption = f"circuit {one.name}{', ' if one.reference else ''}{one.reference}"
    return picture(draw_for_page(one).axes[0], f"circuit {one.name}", caption, wide=True)


def curves(draw_one: Callable[[str, "Axes"], "Axes"], metrics: Sequence[str]) -> tuple[Picture, ...]:
    """Return a learning curve for each metric on the test rows."""
    return tuple(picture(draw_one(m, canvas()), f"test {METRICS[m].label} against rounds") for m in metrics)


def seconds(events: Events) -> dict[str, float]:
    """Return the wall and processor seconds of all rounds that were run, those of broken attempts too."""
    rounds = [event for event in events if event["event"] == "round"]
    return {f"{kind} seconds": sum(event[f"{kind}_s"] for event in rounds) for kind in ("wall", "cpu")}
