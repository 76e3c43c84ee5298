"""Pictures and counts of circuits.

PennyLane draws; the angles are shown as the expressions that they are, such as x[0] or (w[3] * x[1]), and as f(x), a
function of what they depend on, where that would be longer than `LONGEST_IN_TEXT` or `LONGEST_IN_FIGURE`.
"""

import math
from typing import TYPE_CHECKING, Any

from ..figures import showing
from ..svg import GROUND, INK, svg
from .expr import Expr
from .pennylane import GATE_NAMES
from .program import Circuit, Program

if TYPE_CHECKING:
    from matplotlib.figure import Figure


LONGEST_IN_TEXT, LONGEST_IN_FIGURE = 40, 16  # characters of an angle
LETTERS = 75  # points that the letters of a line in a box have together
INCH, WIDEST = 48, 960  # pixels of a drawing's inch in a notebook, and of the whole at most


def describe(circuit: Circuit | Program) -> str:
    """Return size, gates, depth, inputs and weights of a circuit as a few lines of text."""
    program = _program(circuit)
    gates = ", ".join(f"{name} {count}" for name, count in program.count_gates().items()) or "none"
    lines = [
        f"{program.n_wires} wires, {len(program.gates)} gates, depth {program.depth}, "
        f"{program.n_inputs} inputs, {program.n_parameters} parameters",
        f"gates: {gates}",
    ]
    lines += [f"input {name} {shape}" for name, shape in program.inputs]
    for spec in program.weights:
        period = "linear" if spec.period is None else f"period {spec.period / math.pi:g} pi"
        lines.append(f"weight {spec.name} {spec.shape}, {period}")
    return "\n".join(lines)


def draw_text(circuit: Circuit | Program, width: int = 100) -> str:
    """Return the circuit as text, one line a wire, broken into blocks of at most `width` characters."""
    from pennylane.drawer import tape_text

    return str(tape_text(_script(circuit, LONGEST_IN_TEXT, ", "), decimals=2, show_all_wires=True, max_length=width))


def draw(circuit: Circuit | Program, figure: "Figure | None" = None) -> "Figure":
    """Return a matplotlib figure of the circuit, drawn on `figure` if one is given; pyplot is not touched."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from pennylane.drawer import tape_mpl

    figure = figure or Figure()
    if not hasattr(figure.canvas, "get_renderer"):
        FigureCanvasAgg(figure)  # the drawer measures its labels
    tape_mpl(_script(circuit, LONGEST_IN_FIGURE, ",\n"), decimals=2, show_all_wires=True, fig=figure)
    return showing(figure)


def draw_for_page(circuit: Circuit | Program) -> "Figure":
    """Return the figure of `draw` with black and white replaced by what `svg.svg` gives the page's colours."""
    from matplotlib.colors import same_color

    figure = draw(circuit)
    for axes in figure.axes:
        for line in axes.lines:
            line.set_color(INK)
        for text in axes.texts:
            text.set_color(INK)
            shown = text.get_text().replace("weights[", "w[")  # in boxes of one width a long name is tiny
            if shown != text.get_text():
                text.set_text(shown)
                text.set_fontsize(LETTERS / max(map(len, shown.splitlines())))
        for patch in axes.patches:
            face = patch.get_facecolor()
            patch.set_edgecolor(INK)
            if patch.get_fill():
                patch.set_facecolor(INK if same_color(face, "black") else GROUND)
    return figure


def to_html(circuit: Circuit | Program) -> str:
    """Return drawing and facts as HTML for a notebook, whose colours it takes."""
    import html

    figure = draw_for_page(circuit)
    name = circuit.name if isinstance(circuit, Circuit) else "program"
    drawn = svg(figure, f"circuit {name}")
    width = min(figure.get_figwidth() * INCH, WIDEST)
    facts = html.escape(describe(circuit))
    return (
        f"<figure style='margin:0'><figcaption><b>{html.escape(name)}</b></figcaption>"
        f"<div style='max-width:{width:.0f}px'>{drawn}</div><pre>{facts}</pre></figure>"
    )


def _program(circuit: Circuit | Program) -> Program:
    return circuit.program if isinstance(circuit, Circuit) else circuit


def _script(circuit: Circuit | Program, longest: int, comma: str) -> Any:
    """Return a PennyLane script with one gate for each gate, slots shown as text, and the read-out of a `Circuit`."""
    import pennylane as qml

    program = _program(circuit)
    classes = {ours: theirs for theirs, ours in GATE_NAMES.items()}
    gates = []
    for name, wires, angles in program.gates:
        labels = [_label(program.slots[angle], longest, comma) if isinstance(angle, int) else angle for angle in angles]
        gates.append(_gate(classes[name], labels, wires))
    read = circuit.observables if isinstance(circuit, Circuit) else ()
    sentences = [qml.pauli.PauliSentence({qml.pauli.PauliWord(dict(word)): c for c, word in terms}) for terms in read]
    words = [sentence.operation(wire_order=range(program.n_wires)) for sentence in sentences]
    return qml.tape.QuantumScript(gates, [qml.expval(word) for word in words])


def _label(slot: Expr, longest: int, comma: str) -> str:
    text = str(slot)
    if len(text) <= longest:
        return text
    return f"f({comma.join(dict.fromkeys(leaf.args[0] for leaf in slot.leaves() if leaf.op != 'const'))})"


def _gate(name: str, angles: list[Any], wires: tuple[int, ...]) -> Any:
    import pennylane as qml

    if name.startswith("Adjoint("):
        return qml.adjoint(getattr(qml, name[8:-1])(wires=wires))
    return getattr(qml, name)(*angles, wires=wires)
