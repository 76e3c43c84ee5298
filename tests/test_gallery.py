"""The page of the circuit library says what the cards say, and shows the circuits as they are."""

import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from PIL import Image

from qfedfm.citations import cite
from qfedfm.experiment import Experiment
from qfedfm.heads import Parallel, Variational
from qfedfm.quantum import library

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def gallery():
    spec = spec_from_file_location("gallery", DOCS / "gallery.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_cards_give_and_has_every_circuit(gallery):
    text = (DOCS / "circuits.md").read_text(encoding="utf-8")
    assert text == gallery.page(), "run  python docs/gallery.py"
    for name in library.names():
        assert f"\n## {name}\n" in text
        assert library.card(name).title in text


def test_every_picture_is_of_the_circuit_as_it_is(gallery):
    pictures = {path.stem: path for path in (DOCS / "circuits").iterdir()}
    assert set(pictures) == set(library.names())
    for name, path in pictures.items():
        with Image.open(path) as image:
            assert image.text["program"] == library.load(name, gallery.SMALL.get(name)).program.hash
        assert path.stat().st_size < 30_000


def test_a_picture_is_drawn_anew(gallery, tmp_path):
    (tmp_path / "one.png").write_bytes(gallery.picture("matrix_product_state"))
    with Image.open(tmp_path / "one.png") as image, Image.open(DOCS / "circuits" / "matrix_product_state.png") as kept:
        assert image.text == kept.text
        assert len(image.getcolors()) > 4  # something is drawn


def test_every_circuit_has_its_paper_in_the_bibliography():
    for name in library.names():
        head = Parallel((Variational("angle_ring"), Variational(name)))
        entries = cite(Experiment(head=head)).entries.values()
        assert any(re.search(rf"note=.*circuits/{name}\b", entry) for entry in entries), name
