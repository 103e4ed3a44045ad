"""The order of clips: whole, the same for all workers, and balanced where that is asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_fer.training.order import epoch_order, share, step_seed, steps_per_epoch


@given(st.integers(0, 300), st.integers(1, 17))
def test_shares_cover_a_batch_once_and_are_even(count: int, world: int) -> None:
    shares = [share(count, rank, world) for rank in range(world)]
    assert np.concatenate(shares).tolist() == list(range(count))
    sizes = [len(one) for one in shares]
    assert max(sizes) - min(sizes) <= 1


@given(st.integers(1, 200), st.integers(0, 9), st.integers(0, 9))
def test_an_epoch_shows_every_clip_once_in_an_order_of_its_own(count: int, seed: int, epoch: int) -> None:
    labels = np.zeros(count, np.int64)
    order = epoch_order(labels, seed, epoch)
    assert sorted(order.tolist()) == list(range(count))
    assert np.array_equal(order, epoch_order(labels, seed, epoch))


def test_epochs_and_seeds_differ() -> None:
    labels = np.zeros(100, np.int64)
    orders = {tuple(epoch_order(labels, seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_balanced_sampling_shows_rare_classes_as_often() -> None:
    labels = np.repeat([0, 1, 4], [9000, 900, 100])
    shown = np.bincount(labels[epoch_order(labels, 0, 0, balanced=True)], minlength=5)
    assert shown.sum() == 10_000
    assert shown[2] == shown[3] == 0
    # Each count is binomial with p = 1/3: the standard deviation is 47.
    np.testing.assert_allclose(shown[[0, 1, 4]], 3333, atol=5 * 47)


@pytest.mark.parametrize(("clips", "batch", "steps"), [(8, 8, 1), (9, 8, 2), (1, 8, 1), (59, 8, 8)])
def test_the_last_batch_may_be_smaller(clips: int, batch: int, steps: int) -> None:
    assert steps_per_epoch(clips, batch) == steps


def test_every_step_and_worker_has_a_seed_of_its_own() -> None:
    seeds = {step_seed(seed, step, rank) for seed in (0, 1) for step in range(50) for rank in (None, 0, 1, 2)}
    assert len(seeds) == 2 * 50 * 4
    assert all(0 <= seed < 2**63 for seed in seeds), "what torch.manual_seed takes"
