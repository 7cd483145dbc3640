"""Softmax rows whose logits are so sharp that their powers leave the range of floating numbers."""

import numpy as np
import pytest

from stepzero.theory._softmax import openness


@pytest.mark.parametrize("variance", [30.0, 80.0, 400.0])
def test_very_sharp_rows_stay_finite_and_concentrated(variance):
    shares = openness(np.array([8.0, 64.0]), variance)
    assert (shares.concentration > 0.5).all()
    assert (shares.jacobian >= 0.0).all()
    rng = np.random.default_rng(3)
    logits = rng.standard_normal((20_000, 8)) * min(variance, 100.0) ** 0.5
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    assert shares.concentration[0] == pytest.approx((p**2).sum(1).mean(), abs=5 * (p**2).sum(1).std() / 20_000**0.5)
