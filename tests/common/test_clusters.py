"""Intervals and tests hold for selfies that come in clusters, and are the usual ones where each user has one selfie."""

from __future__ import annotations

import time

import numpy as np
import pytest
import scipy.stats

from selfie.common import clusters, stats
from selfie.common.clusters import Clusters


def users_of(generator: np.random.Generator, count: int = 40) -> np.ndarray:
    """Whose each selfie is: most users have few, some have many."""
    return np.repeat(np.arange(count), np.ceil(generator.lognormal(1.5, 1, count)).astype(int).clip(max=200))


def alike(generator: np.random.Generator, users: np.ndarray) -> np.ndarray:
    """Normal numbers of which half the variance is the user's."""
    return generator.normal(size=users.max() + 1)[users] + generator.normal(size=len(users))


def test_with_one_selfie_each_all_is_as_ever():
    """A share's interval is Wilson's to the digit, an AUC's the usual bootstrap's but for luck, p Mann-Whitney's."""
    generator = np.random.default_rng(0)
    each = Clusters(np.arange(300))
    for right in (generator.random(300) < 0.7, np.ones(300, bool), np.zeros(300, bool)):
        assert each.proportion(right) == pytest.approx(stats.wilson(right.sum(), 300), abs=1e-12)
    labels = generator.integers(0, 2, 300)
    scores = labels + generator.normal(size=300)
    usual = stats.auc_report(scores, labels)
    assert each.auc(scores, labels) == pytest.approx((usual["low"], usual["high"]), abs=0.01)
    test = scipy.stats.mannwhitneyu(scores[labels == 1], scores[labels == 0] + 0.8, use_continuity=False)
    effect = clusters.cliff(scores + 0.8 * (labels == 0), labels, np.arange(300), 0, 100)
    assert effect["delta_p"] == pytest.approx(test.pvalue, rel=0.05)


def test_the_95_percent_interval_of_a_share_holds_the_truth_95_times_in_100():
    """Of 600 simulated sets of clustered answers; Wilson's, which takes them as independent, in less than 70."""
    generator, truth = np.random.default_rng(1), scipy.stats.norm.cdf(0.4 / np.sqrt(2))
    held, independent = [], []
    for _ in range(600):
        users = users_of(generator)
        right = 0.4 + alike(generator, users) > 0
        low, high = Clusters(users).proportion(right)
        held.append(low <= truth <= high)
        low, high = stats.wilson(right.sum(), len(right))
        independent.append(low <= truth <= high)
    assert 0.93 <= np.mean(held) <= 0.97 and np.mean(independent) < 0.7


def test_so_does_that_of_an_auc():
    """Of 250 simulated sets whose labels and scores are both the users'; drawing single selfies, in less than 85."""
    generator, truth = np.random.default_rng(2), scipy.stats.norm.cdf(0.6)
    held, independent = [], []
    for _ in range(250):
        users = users_of(generator)
        labels = (alike(generator, users) > 0).astype(int)
        scores = 0.6 * 2 * labels + alike(generator, users)
        low, high = Clusters(users).auc(scores, labels, resamples=300)
        held.append(low <= truth <= high)
        low, high = Clusters(np.arange(len(users))).auc(scores, labels, resamples=300)
        independent.append(low <= truth <= high)
    assert 0.91 <= np.mean(held) <= 0.98 and np.mean(independent) < 0.85


def test_the_variance_is_that_of_leaving_out_one_user_at_a_time():
    """Against the jackknife written down: the estimate without each user, and how these scatter."""
    generator = np.random.default_rng(3)
    users = users_of(generator, 12)
    values = alike(generator, users)
    without = np.array([values[users != user].mean() for user in range(12)])
    jackknife = ((without - values.mean()) ** 2).sum() * 11 / 12
    found = Clusters(users).variance((values - values.mean()) / len(values))
    assert found == pytest.approx(jackknife)
    assert Clusters(users).design_effect(values - values.mean()) > 1.5


def test_where_all_answers_are_right_only_the_users_count():
    """60 right answers of 6 users tell less than 60 of 60 users, and no more than 6 single ones; one user's nothing."""
    right = np.ones(60, bool)
    low = Clusters(np.repeat(np.arange(6), 10)).proportion(right)[0]
    assert low < stats.wilson(6, 6)[0] < stats.wilson(60, 60)[0]
    assert Clusters(np.zeros(60, int)).proportion(right) == (0, 1)
    assert np.isnan(Clusters(np.zeros(60, int)).auc(np.arange(60.0), np.arange(60) % 2)).all()


def test_a_sample_is_of_whole_users_and_its_auc_that_of_its_selfies():
    """Counted with ties against the rows written out; a sample of one label has none; the seed decides."""
    generator = np.random.default_rng(4)
    users = np.array(["c", "a", "a", "b", "b", "b", "d"])
    scores, labels = generator.integers(0, 3, 7).astype(float), np.array([1, 1, 0, 0, 1, 0, 1])
    found = Clusters(users)
    blocks = np.concatenate(list(found.samples(seed=5, resamples=50)))
    assert blocks.shape == (50, 7) and len(found) == 4
    measured = clusters._SampledAUC(scores, labels)(blocks)
    for times, value in zip(blocks.astype(int), measured):
        assert all(len(set(times[users == user])) == 1 for user in "abcd")
        assert sum(times[users == user][0] for user in "abcd") == 4
        rows = np.repeat(np.arange(7), times)
        if len(set(labels[rows])) == 2:
            assert value == pytest.approx(stats.auc(scores[rows], labels[rows]))
        else:
            assert np.isnan(value)
    assert np.isnan(measured).any()
    assert (blocks == np.concatenate(list(found.samples(seed=5, resamples=50)))).all()
    assert (blocks != np.concatenate(list(found.samples(seed=6, resamples=50)))).any()


def test_what_is_only_the_users_is_no_effect():
    """A number that has nothing to do with the label is significant in about 5 of 100 sets; taking selfies as
    independent, in more than 20."""
    generator = np.random.default_rng(6)
    of_users, of_selfies = [], []
    for _ in range(200):
        users = users_of(generator)
        group, values = (alike(generator, users) > 0).astype(int), alike(generator, users)
        of_users.append(clusters.cliff(values, group, users, 0, 2)["delta_p"] < 0.05)
        of_selfies.append(clusters.cliff(values, group, np.arange(len(users)), 0, 2)["delta_p"] < 0.05)
    assert np.mean(of_users) < 0.08 and np.mean(of_selfies) > 0.2


def test_a_real_effect_remains_one():
    """A shift of one standard deviation, whoever's the selfies are."""
    generator = np.random.default_rng(7)
    users = users_of(generator)
    group = generator.integers(0, 2, len(users))
    effect = clusters.cliff(alike(generator, users) + 1.4 * group, group, users)
    assert effect["delta_p"] < 1e-4 and 0.2 < effect["delta_low"] < effect["delta"] < effect["delta_high"] < 0.9
    with_others = np.concatenate([group, [-1, -1]])
    values = np.concatenate([alike(generator, users), [99.0, 99.0]])
    assert clusters.cliff(values, with_others, np.concatenate([users, [0, 1]]), resamples=50) == clusters.cliff(
        values[:-2], group, users, resamples=50
    )


@pytest.mark.timing
def test_ten_thousand_selfies_are_resampled_at_once():
    """2,000 times, in less than two seconds of computing."""
    generator = np.random.default_rng(8)
    users, labels = generator.integers(0, 3000, 10_000), generator.integers(0, 2, 10_000)
    started = time.process_time()
    Clusters(users).auc(labels + generator.normal(size=10_000), labels, resamples=2000)
    assert time.process_time() - started < 2
