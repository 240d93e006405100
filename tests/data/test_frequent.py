"""Values that occur several times are found by sorting as by counting."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from selfie.data import frequent


@pytest.mark.parametrize("size, kinds", [(0, 1), (1, 1), (3, 9), (500, 90), (500, 3)])
@pytest.mark.parametrize("times", [2, 5])
def test_what_occurs_several_times_is_found(size, kinds, times):
    """Values of all 64 bits, in tables of no, one and many numbers."""
    generator = np.random.default_rng(size)
    numbers = generator.choice(generator.integers(0, 2**64, kinds, np.uint64), size)
    counts = Counter(numbers.tolist())
    assert frequent.values(numbers, times).tolist() == sorted(n for n in counts if counts[n] >= times)
    assert frequent.marked(numbers, times).tolist() == [counts[n] >= times for n in numbers.tolist()]
