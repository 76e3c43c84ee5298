"""Every mistake of docs/errors.md ends in the error it names, and the page shows what is said today."""

import re

import pytest
from likely_mistakes import MISTAKES, PAGE, page, provoke

from qfedfm.errors import QfedfmError


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.title)
def test_a_mistake_is_answered_by_one_clear_error(mistake):
    error = provoke(mistake)
    assert type(error).__name__ == mistake.error
    assert isinstance(error, QfedfmError)
    assert 20 < len(str(error)) < 1200


def test_there_are_twenty_and_the_page_holds_them_as_they_are_now():
    assert len(MISTAKES) >= 20
    # folders of this machine and the state of the GPU are its own
    own = re.compile(r"(/[\w.-]+)+/|\(Torch not compiled.*?\)|\(.*?CUDA.*?\)")
    assert own.sub("", PAGE.read_text(encoding="utf-8")) == own.sub("", page()), "run  python tests/likely_mistakes.py"
