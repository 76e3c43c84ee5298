"""Pictures of a session: its ledger as a waterfall, and its talk as a sequence diagram."""

from textwrap import fill
from typing import TYPE_CHECKING

from .channel import Side, Traffic

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .session_result import Session

HELD, LOST, KEY, LIGHT = "#6d4bd8", "#d9822b", "#3a8f5d", "#7a7a7a"
"""What both parties hold; what was lost or spent; key to use; what is no message."""

SAID: dict[str, tuple[tuple[Side, str], tuple[Side, str]]] = {
    "sifting": (("bob", "clicks and bases"), ("alice", "where bases agree")),
    "estimation": (("bob", "bits of the test basis"), ("alice", "errors among them")),
    "reconciliation": (("alice", "parities"), ("bob", "questions")),
    "verification": (("alice", "tags of frames"), ("bob", "frames that agree")),
    "authentication": (("alice", "seed of amplification, tag"), ("bob", "tag")),
}
"""What the parties say in each stage of a session, who speaks first first; the other stages are silent."""


def plot_ledger(session: "Session", ax: "Axes | None" = None) -> "Axes":
    """Draw where the bits of `session` went, one bar a step from clicks to delivered key, and return the axes.

    Bars that float are what a step took. What amplification takes beyond the bits that were told is laid to Eve: what
    she may know of the light, with the margins of finite statistics, and once more the frames that failed.
    """
    from matplotlib.ticker import EngFormatter

    rows = _waterfall(session)
    ax = _axes(ax, (6.8, 1.2 + 0.26 * len(rows)))
    most = max(*(start + width for _, start, width, _ in rows), 1)
    for i, (_, start, width, colour) in enumerate(rows):
        ax.barh(i, width, left=start, height=0.7, color=colour)
        sign = "\N{MINUS SIGN}" if colour == LOST else ""
        ax.text(max(start + width, 0) + 0.012 * most, i, f"{sign}{width:,}", va="center", fontsize=8)
    ax.set_yticks(range(len(rows)), [name for name, *_ in rows], fontsize=8.5)
    ax.invert_yaxis()
    ax.set_xlim(min(0, *(start for _, start, _, _ in rows)), 1.16 * most)
    ax.axvline(0, color="#8a8a8a", linewidth=0.8)
    ax.xaxis.set_major_formatter(EngFormatter("bit"))
    ax.locator_params(axis="x", nbins=6)
    ax.set_title(fill(_outcome(session), 72), fontsize=9)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.tick_params(axis="y", length=0)
    return ax


def plot_sequence(session: "Session", ax: "Axes | None" = None) -> "Axes":
    """Draw the messages and bits of each stage of `session` between the lines of Alice and Bob; return the axes.

    Dashed is the light; the stages run downwards, and each arrow stands for all messages of its direction and stage.
    """
    spoken = [stage for stage in session.traffic if stage.messages_alice + stage.messages_bob]
    ax = _axes(ax, (6.8, 1.6 + 0.72 * len(spoken)))
    ledger = session.ledger
    _arrow(ax, 0.0, "alice", f"{ledger.pulses:,} pulses, of which {ledger.raw:,} clicked", LIGHT, "--")
    ax.text(-0.06, 0.0, "light", ha="right", va="center", fontsize=8.5)
    row = 1.0
    for stage in spoken:
        ax.text(-0.06, row + 0.35, stage.stage, ha="right", va="center", fontsize=8.5)
        for speaker, what in SAID[stage.stage]:
            messages, bits = _of(stage, speaker)
            if messages:
                plural = "s" if messages > 1 else ""
                _arrow(ax, row, speaker, f"{what}: {messages:,} message{plural}, {_amount(bits)}", HELD, "-")
            row += 0.7
        row += 0.4
    for x, name in ((0, "Alice"), (1, "Bob")):
        ax.plot([x, x], [-0.6, row - 0.2], color="#555555", linewidth=1)
        ax.text(x, -0.75, name, ha="center", va="bottom", fontsize=9.5, fontweight="bold")
    end = fill(_outcome(session), 80)
    ax.text(0.5, row, end, ha="center", va="top", fontsize=9, color=KEY if session.ledger.delivered else LOST)
    ax.set_xlim(-0.34, 1.06)
    ax.set_ylim(row + 0.2 + 0.45 * (end.count("\n") + 1), -1.4)
    ax.set_axis_off()
    return ax


def _waterfall(session: "Session") -> list[tuple[str, int, int, str]]:
    """Return (name, where the bar starts, its width, its colour) of each step that the session reached."""
    ledger = session.ledger
    steps = [
        ("clicks", ledger.raw, HELD),
        ("bases that differ", ledger.raw - ledger.sifted, LOST),
        ("sifted", ledger.sifted, HELD),
        ("test basis, made public", ledger.sample, LOST),
        ("frames that failed", ledger.dropped, LOST),
        ("reconciled", ledger.reconciled, HELD),
        ("told in reconciliation", ledger.leaked, LOST),
        ("told in verification", ledger.verification, LOST),
    ]
    if session.aborted is None:
        light = ledger.amplification - ledger.leaked - ledger.verification
        steps += [
            ("what Eve may know of the light", light, LOST),
            ("secret", ledger.secret, HELD),
            ("authentication", ledger.tags, LOST),
        ]
    rows, left = list[tuple[str, int, int, str]](), 0
    for name, bits, colour in steps:
        if colour == HELD and bits:
            left = bits
        elif colour == LOST and bits:
            left -= bits
        else:
            continue
        rows.append((name, 0 if colour == HELD else left, bits, colour))
    if session.aborted is not None and left > 0:
        rows.append(("given up", 0, left, LOST))
    return [*rows, ("delivered", 0, ledger.delivered, KEY)]


def _outcome(session: "Session") -> str:
    if session.aborted is not None:
        return f"given up: {session.aborted}"
    if not session.ledger.delivered:
        return f"no key to use: a net of {session.ledger.net:,} bits"
    return f"{session.ledger.delivered:,} bits of key, simulated"


def _of(stage: Traffic, side: Side) -> tuple[int, int]:
    if side == "alice":
        return stage.messages_alice, stage.bits_alice
    return stage.messages_bob, stage.bits_bob


def _arrow(ax: "Axes", y: float, speaker: Side, text: str, colour: str, line: str) -> None:
    ends = (0, 1) if speaker == "alice" else (1, 0)
    style = {"arrowstyle": "-|>", "color": colour, "linestyle": line, "shrinkA": 1, "shrinkB": 1, "mutation_scale": 11}
    ax.annotate("", xy=(ends[1], y), xytext=(ends[0], y), arrowprops=style)
    ax.text(0.5, y - 0.06, text, ha="center", va="bottom", fontsize=8)


def _amount(bits: int) -> str:
    """Return bits with three digits or so: 512 bits, 25.4 kbit, 1.47 Mbit."""
    for unit, size in (("Gbit", 1e9), ("Mbit", 1e6), ("kbit", 1e3)):
        if bits >= size:
            return f"{bits / size:.3g} {unit}"
    return f"{bits} bits"


def _axes(ax: "Axes | None", size: tuple[float, float]) -> "Axes":
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=size, layout="constrained")[1]
