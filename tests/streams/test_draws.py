import mpmath
import pytest

from stepzero.errors import LawError
from stepzero.streams import cut_level
from stepzero.streams._draws import LEVELS


def exact(sigmas):
    with mpmath.workdps(40):
        return 2**32 * mpmath.ncdf(mpmath.mpf(sigmas))


@pytest.mark.parametrize("sigmas", [*LEVELS, -2.5, 0.0, 0.7, 4.5, 9.0, -9.0, 40.0])
def test_cut_levels_are_the_integers_nearest_to_the_exact_mass(sigmas):
    assert cut_level(sigmas) == int(mpmath.nint(exact(sigmas)))


def test_a_cut_between_two_levels_is_refused():
    with mpmath.workdps(40):
        between = float(mpmath.findroot(lambda x: 2**32 * mpmath.ncdf(x) - (3_000_000_000 + mpmath.mpf(1) / 2), 0.5))
    with pytest.raises(LawError, match="between two quantile levels"):
        cut_level(between)
