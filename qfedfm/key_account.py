"""The account of a run's keys: what each link's sessions came to and what is left.

Read from the run's events, into which a key source that keeps account (simulated quantum links do) writes every session
and, after each round, the balance of each link.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import plots
from .report import Section, picture
from .svg import canvas

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

NOTES = {"preshared": " (not QKD)", "qkd-simulated": " (simulated: such keys protect nothing)"}
"""What has to be said beside a key source's name."""

Events = Sequence[Mapping[str, Any]]


def sessions(events: Events) -> "pd.DataFrame":
    """Return one row per session: round, link, qber_key, qber_test, delivered, aborted and the ledger, all in bits."""
    import pandas as pd

    rows = []
    for event in _of(events, "keys", "session"):
        rates = {name: event[name][0] if event[name] else float("nan") for name in ("qber_key", "qber_test")}
        rest = {name: value for name, value in event.items() if name not in ("time", "event", "what", "link", *rates)}
        rows.append({"round": event["round"], "link": _name(event)} | rates | rest)
    return pd.DataFrame(rows)


def balances(events: Events) -> "pd.DataFrame":
    """Return one row per round and link: bits delivered, drawn and moved to authentication so far, and what is left."""
    import pandas as pd

    names = ("round", "delivered", "drawn", "authentication", "left")
    rows = [{"link": _name(event)} | {name: event[name] for name in names} for event in _of(events, "keys", "balance")]
    return pd.DataFrame(rows, columns=["link", *names]).drop_duplicates(["link", "round"], keep="last")


def plot_balances(frame: "pd.DataFrame", ax: "Axes | None" = None) -> "Axes":
    """Plot the key left on each link after each round, in kilobits; return the axes."""
    from matplotlib.ticker import MaxNLocator

    ax = plots.new_axes(ax)
    for i, (link, rows) in enumerate(frame.groupby("link")):
        colour, marker = plots.COLOURS[i % len(plots.COLOURS)], plots.MARKERS[i % len(plots.MARKERS)]
        ax.plot(rows["round"], rows["left"] / 1000, label=str(link), color=colour, marker=marker, markersize=3.5)
    ax.set_xlabel("round")
    ax.set_ylabel("key left, kilobits")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    if frame["link"].nunique() <= 12:
        ax.legend(frameon=False, fontsize=8)
    return ax


def sections(events: Events, source: str) -> tuple[Section, ...]:
    """Return the part of a report on quantum keys; none where there is nothing to say."""
    held, left = sessions(events), balances(events)
    if not len(left):
        return ()
    note = "simulated and protect nothing in the real world" if source == "qkd-simulated" else f"from {source}"
    text = (
        f"What each link's sessions came to; the keys are {note}. QBER: of the bits that were reconciled, or of the "
        "test basis where a session was given up before."
    )
    caption = "key left in store on each link after each round"
    drawn = picture(plot_balances(left, canvas()), caption, caption)
    return (Section("Quantum keys", text, (drawn,), _by_link(held, left)),)


def _by_link(held: "pd.DataFrame", left: "pd.DataFrame") -> "pd.DataFrame":
    import pandas as pd

    rows = []
    for link, balance in left.groupby("link"):
        mine = held[held["link"] == link] if len(held) else held
        given_up = mine[mine["aborted"].notna()] if len(mine) else mine
        rates = mine["qber_key"].fillna(mine["qber_test"]) if len(mine) else pd.Series(dtype=float)
        last = balance.iloc[-1]
        rows.append(
            {
                "link": link,
                "sessions": len(mine),
                "given up": len(given_up),
                "QBER, lowest": rates.min(),
                "QBER, highest": rates.max(),
                "delivered, bits": last["delivered"],
                "drawn, bits": last["drawn"],
                "left, bits": last["left"],
                "seconds of sending": mine["seconds"].sum() if len(mine) else 0.0,
            }
        )
    return pd.DataFrame(rows)


def _of(events: Events, kind: str, what: str) -> list[Mapping[str, Any]]:
    return [event for event in events if event["event"] == kind and event.get("what") == what]


def _name(event: Mapping[str, Any]) -> str:
    return " – ".join(event["link"])
