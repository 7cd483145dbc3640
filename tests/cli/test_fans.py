import pytest


def test_a_shape_gives_the_articles_numbers(cli):
    ran = cli("fans", "32x1x5x5", "--json")
    assert ran.code == 0
    assert (ran.data["fan_in"], ran.data["fan_out"]) == (25, 800)
    assert ran.data["recipes"]["kaiming_normal"]["std"] == pytest.approx((2 / 25) ** 0.5, rel=1e-12)


@pytest.mark.parametrize(
    ("arguments", "fan_in", "fan_out"),
    [
        (("64x32x3x3", "--transposed", "--stride", "2"), 144, 288),  # 9·64/4 and 9·32
        (("64x1x3x3", "--groups", "64"), 9, 9),
        (("64x64x3x3", "--padding", "1", "--input-size", "2"), 4 * 64, 4 * 64),  # 4 of 9 taps hit a 2×2 map
        (("8x8x3x3", "--padding", "same", "--input-size", "2x2"), 4 * 8, 4 * 8),
    ],
)
def test_geometry_is_handed_on(cli, arguments, fan_in, fan_out):
    data = cli("fans", *arguments, "--json").data
    assert (data["fan_in"], data["fan_out"]) == (fan_in, fan_out)


def test_a_checkerboard_is_told(cli):
    assert "4 times the variance of others" in cli("fans", "64x32x3x3", "--transposed", "--stride", "2").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("3xa",), "is not of the form 32x1x5x5"),
        (("7",), "a weight needs at least 2 axes"),
        (("32x1x5x5", "--stride", "two"), "is not of the form"),
        ((), "Missing argument"),
    ],
)
def test_misuse_is_exit_code_2_and_says_what_is_wrong(cli, arguments, message):
    ran = cli("fans", *arguments)
    assert (ran.code, ran.out) == (2, "")
    assert message in ran.err
