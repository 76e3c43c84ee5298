"""The tables are those that their descriptions publish."""

import importlib.util

import numpy as np
import pytest

from qfedfm.data import BreastCancer, Diabetes, Digits
from qfedfm.errors import MissingExtraError


def test_digits_are_as_published():
    data = Digits().load()
    assert data.items.shape == (1797, 64)
    assert np.bincount(data.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert (data.items.min(), data.items.max()) == (0, 1)


def test_breast_cancer_is_as_published():
    data = BreastCancer().load()
    assert data.items.shape == (569, 30)
    assert dict(zip(data.classes, np.bincount(data.labels), strict=True)) == {"malignant": 212, "benign": 357}
    assert np.allclose(data.items.mean(0), 0, atol=1e-6)
    assert np.allclose(data.items.std(0), 1, atol=1e-5)
    assert BreastCancer(standardise=False).load().items[0, 0] == np.float32(17.99)  # the first radius of the UCI file


def test_diabetes_is_as_published():
    data = Diabetes().load()
    assert (data.task, data.items.shape) == ("numbers", (442, 10))
    assert data.labels[:3].tolist() == [1.51, 0.75, 1.41]  # 151, 75 and 141 in the authors' file
    assert np.allclose(data.items.std(0), 1, atol=1e-5)


@pytest.mark.parametrize("source", [Digits(), BreastCancer(), Diabetes()])
def test_outlines_tell_the_truth_and_the_extra_is_named(source, monkeypatch):
    data, outline = source.load(), source.outline()
    assert (outline.features, outline.classes) == (data.items.shape[1], len(data.classes))
    monkeypatch.setattr("qfedfm.data.scikit_learn.find_spec", lambda name: None)
    assert importlib.util.find_spec("sklearn") is not None
    with pytest.raises(MissingExtraError, match=r"scikit-learn.*qfedfm\[sklearn\]"):
        source.check()
