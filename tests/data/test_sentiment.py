import numpy as np
import pytest

from qfedfm.data import Sentiment, split
from qfedfm.errors import ConfigurationError


@pytest.fixture(scope="module")
def default():
    return Sentiment().load()


def test_the_default_is_six_hundred_sentences_of_each_domain(default):
    names, counts = np.unique(default.domains, return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == dict.fromkeys(
        ["tweets", "movies", "products", "editorials"], 600
    )
    assert default.classes == ("negative", "positive")


def test_no_text_occurs_twice_even_across_domains():
    everything = Sentiment(per_domain=None, threshold=0).load()
    assert len({" ".join(text.lower().split()) for text in everything.items}) == len(everything)


def test_no_review_is_on_both_sides_of_a_split(default):
    parts = split(default, seed=7)
    groups = [set(default.groups[rows]) for rows in (parts.train, parts.validation, parts.test)]
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert not groups[1] & groups[2]


def test_the_choice_is_the_datas_own_and_smaller_choices_nest(default):
    assert Sentiment().load() == default
    assert Sentiment().load().fingerprint == default.fingerprint
    assert set(Sentiment(per_domain=50).load().items) < set(default.items)
    alone = Sentiment(domains=("products",)).load()
    assert alone.items == tuple(np.array(default.items)[default.domains == "products"].tolist())


def test_sentences_below_the_threshold_are_left_out():
    strong = Sentiment(per_domain=None, threshold=2.5).load()
    weak = Sentiment(per_domain=None, threshold=0.5).load()
    assert set(strong.items) < set(weak.items)


def test_mistakes_are_named():
    with pytest.raises(ConfigurationError, match="has 2976 sentences with"):
        Sentiment(domains=("products",), per_domain=5000).load()
    with pytest.raises(ConfigurationError) as caught:
        Sentiment(domains=("twets",), per_domain=0)
    assert len(caught.value.problems) == 2
    with pytest.raises(ConfigurationError, match="each once"):
        Sentiment(domains=("tweets", "tweets"))
