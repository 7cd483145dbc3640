"""Directions, and lengths of what another parameter was drawn as."""

import numpy as np
import pytest

from stepzero.errors import LawError
from stepzero.laws import Copy, Kept, Normal, Norms, Orthogonal, Parts, Sphere


def test_moments_of_lengths_follow_the_slices():
    law = Norms("v", Parts.stacked([Normal(1.0), Normal(3.0)], [1, 2]), (3, 50), 0)
    mean, second = law.moments((3, 1))
    assert second.ravel() == pytest.approx([50, 450, 450])
    assert (mean < np.sqrt(second)).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Norms("", Normal(1.0), (3, 4)), "no name of a parameter"),
        (lambda: Norms("v", Kept(), (3, 4)), "no law that v is drawn from"),
        (lambda: Norms("v", Copy("w", Normal(1.0)), (3, 4)), "no law that v is drawn from"),
        (lambda: Norms("v", Normal(1.0), (3, 4), 2), "no slices along axis 2"),
        (lambda: Norms("v", Normal(1.0), (3, 0), 0), "no slices along axis 0"),
        (lambda: Norms("v", Orthogonal(), (3,), 0), "Orthogonal"),
        (lambda: Norms("v", Normal(1.0), (3, 4), 0).require((4, 1)), r"3 lengths of v for a tensor of shape \(4, 1\)"),
        (lambda: Norms("v", Normal(1.0), (6, 4), 0).require((2, 3)), "6 lengths of v"),
        (lambda: Sphere(-1.0), "negative"),
        (lambda: Sphere(1.0, -1), "is no axis"),
        (lambda: Sphere(1.0, 2).require((3, 4)), "has no axis 2"),
        (lambda: Sphere().require((0,)), "has no direction"),
    ],
)
def test_what_has_no_length_is_refused(make, message):
    with pytest.raises(LawError, match=message):
        make()
