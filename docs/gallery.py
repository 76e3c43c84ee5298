"""Write the page of the circuit library, docs/circuits.md, and its pictures from the cards:  python docs/gallery.py."""

import re
from io import BytesIO
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from qfedfm.quantum import describe, draw, library

DOCS = Path(__file__).parent
SMALL = {  # sizes of the pictures, where the circuit's own would be too wide to read
    "amplitude_embedding": {"n": 2, "layers": 1},
    "brickwork": {"n": 3, "layers": 1},
    "data_reuploading": {"n": 3},
    "heavy_hex_chain": {"layers": 1},
    "iqp": {"n": 3, "layers": 1},
    "permutation_equivariant": {"layers": 1},
    "qcnn": {"levels": 1},
    "simplified_two_design": {"layers": 1},
    "strongly_entangling": {"n": 3},
}
INTRODUCTION = """# The circuit library

Written by `docs/gallery.py` from the files in `circuits/`: change those and run it again.

Each circuit is a pair of files, `circuits/NAME.qasm` (OpenQASM 3) and its card `circuits/NAME.toml`, which holds what
is said here and expectation values from an independent computation, checked by the tests.
`qf.heads.Variational("NAME", sizes={...})` makes a head of it, `qf.quantum.load("NAME", {...})` the circuit alone.
Counts are at the sizes that the file declares; the pictures are smaller where that is stated.

"""


def picture(name: str) -> bytes:
    """Return the circuit's picture as a PNG of few colours, the hash of the program that it shows in its text."""
    circuit = library.load(name, SMALL.get(name))
    figure = draw(circuit)
    raw = BytesIO()
    figure.savefig(raw, dpi=110, bbox_inches="tight")
    plt.close(figure)
    info, small = PngInfo(), BytesIO()
    info.add_text("program", circuit.program.hash)
    Image.open(raw).convert("L").quantize(16).save(small, "PNG", optimize=True, pnginfo=info)
    return small.getvalue()


def page() -> str:
    """Return docs/circuits.md."""
    rows = ["| circuit | wires | inputs | angles | depth | read-out |", "|---|---|---|---|---|---|"]
    for name in library.names():
        program = library.load(name).program
        numbers = f"{program.n_wires} | {program.n_inputs} | {program.n_parameters} | {program.depth}"
        rows.append(f"| [{name}](#{name}) | {numbers} | {library.card(name).readout} |")
    return INTRODUCTION + "\n".join(rows) + "\n\n" + "\n".join(map(section, library.names()))


def section(name: str) -> str:
    """Return what the page says of one circuit."""
    about = library.card(name)
    reference = re.sub(r"doi:([^\s;,)]+)", r"[doi:\1](https://doi.org/\1)", about.reference)
    sources = "; ".join(dict.fromkeys(check.source for check in about.check))
    sizes = "".join(f", {key} = {value}" for key, value in SMALL.get(name, {}).items())
    return f"""## {name}

**{about.title}.** {reference}.

{about.role[0].upper()}{about.role[1:]}. Read-out: {about.readout}. Checks: {len(about.check)}, from {sources}.

```text
{describe(library.load(name))}
```

![{about.title}](circuits/{name}.png)
{f"{chr(10)}*The picture: {sizes[2:]}.*{chr(10)}" if sizes else ""}"""


def main() -> None:
    """Write page and pictures; pictures of circuits that are gone are removed."""
    folder = DOCS / "circuits"
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    for name in library.names():
        (folder / f"{name}.png").write_bytes(picture(name))
    (DOCS / "circuits.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
