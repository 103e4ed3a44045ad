"""Which clips are in which batch: a function of seed, epoch and step alone.

All workers compute the same order and take their shares of each batch. So a batch is the same whatever the number of
workers, and a run that died goes on at any step as if nothing had happened.
"""

from __future__ import annotations

import numpy as np


def steps_per_epoch(clips: int, batch_size: int) -> int:
    """Number of batches; the last one may be smaller."""
    return -(-clips // batch_size)


def epoch_order(labels: np.ndarray, seed: int, epoch: int, balanced: bool = False) -> np.ndarray:
    """Places int64 [N] of the clips in the order in which an epoch shows them.

    labels int64 [N]. A permutation; if `balanced`, N draws with replacement in which every class that occurs is
    equally likely.
    """
    rng = np.random.default_rng([seed, epoch])
    if not balanced:
        return rng.permutation(len(labels))
    _, which, counts = np.unique(labels, return_inverse=True, return_counts=True)
    chance = 1 / (len(counts) * counts[which])
    return rng.choice(len(labels), size=len(labels), p=chance / chance.sum())


def share(count: int, rank: int, world: int) -> np.ndarray:
    """Which of `count` consecutive things are this worker's: shares differ by at most one, and may be empty."""
    return np.array_split(np.arange(count), world)[rank]


def step_seed(seed: int, step: int, rank: int | None = None) -> int:
    """Seed of one step's randomness: augmentation for the whole batch, or (with `rank`) a worker's dropout."""
    words = [seed, step] if rank is None else [seed, step, rank + 1]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)
