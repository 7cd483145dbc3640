"""Recipes: the article's numbers, closed forms for any fan, and every entry of the table."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepzero.errors import RecipeError
from stepzero.laws import DISTRIBUTIONS, RECIPES, Kaiming, LeCun, Normal, Uniform, VarianceScaling, Xavier, recipe
from stepzero.theory import FAN_MODES, Fans, fans

FANS = st.builds(Fans, st.floats(1, 1e6), st.floats(1, 1e6))


def test_the_articles_kaiming_numbers():
    shape = fans((32, 1, 5, 5))
    assert Kaiming().law(shape).std == pytest.approx(math.sqrt(2 / 25))
    assert Kaiming(mode="fan_out").law(shape).std == pytest.approx(math.sqrt(2 / 800))
    assert Kaiming().law(shape) == Uniform(-math.sqrt(3) * math.sqrt(2 / 25), math.sqrt(3) * math.sqrt(2 / 25))
    assert Kaiming(a=math.sqrt(5)).law(shape).high == pytest.approx(1 / math.sqrt(25))  # torch's default


def test_he_et_al_2015_published_stds():
    published = {64: 0.059, 128: 0.042, 256: 0.029, 512: 0.021}  # §2.2, VGG model B, n̂ = 3²·d
    for filters, std in published.items():
        law = Kaiming(mode="fan_out", distribution="normal").law(fans((filters, filters, 3, 3)))
        assert law.std == pytest.approx(std, abs=6e-4)


@given(FANS, st.floats(-3, 3), st.sampled_from(FAN_MODES), st.sampled_from(sorted(DISTRIBUTIONS)))
def test_kaiming_has_its_closed_form_in_every_mode_and_distribution(fan, a, mode, distribution):
    law = Kaiming(a, mode, distribution).law(fan)
    assert law.variance == pytest.approx(2 / ((1 + a * a) * fan.of(mode)), rel=1e-12)
    assert law.mean == 0


@given(FANS, st.floats(0.1, 5))
def test_xavier_and_lecun_have_their_closed_forms(fan, gain):
    assert Xavier(gain).law(fan).high == pytest.approx(gain * math.sqrt(6 / (fan.fan_in + fan.fan_out)), rel=1e-12)
    assert LeCun(gain, "normal").law(fan).std == pytest.approx(gain / math.sqrt(fan.fan_in), rel=1e-12)


@given(FANS)
def test_every_recipe_is_a_variance_over_a_fan(fan):
    for each in RECIPES.values():
        assert each.law(fan).variance == pytest.approx(each.rule.scale / fan.of(each.rule.mode), rel=1e-12)


def test_the_table_spells_keras_and_jax_too():
    assert recipe("glorot_uniform") == recipe("xavier_uniform") == Xavier()
    assert recipe("kaiming_normal").law(Fans(50, 1)) == Normal(0.2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Kaiming(mode="fan_middle"), r"mode='fan_middle' is not a fan. Choose one of fan_in, fan_out, fan_avg, fan_geo_avg"),
        (lambda: Kaiming(a=math.nan), "Kaiming: a=nan is not a finite number"),
        (lambda: Kaiming(distribution="cauchy"), "distribution='cauchy' is not a distribution. Choose one of uniform, normal"),
        (lambda: Xavier(0.0), r"gain=0\.0 is not positive. For zeros use Constant"),
        (lambda: LeCun(-1.0), r"gain=-1\.0"),
        (lambda: VarianceScaling(0.0), r"scale=0\.0"),
        (lambda: VarianceScaling(True), "scale=True"),
        (lambda: recipe("kaming_normal"), "no recipe is called 'kaming_normal'. Did you mean kaiming_normal"),
        (lambda: recipe("zzz"), "Choose one of kaiming_uniform"),
    ],
)  # fmt: skip
def test_impossible_recipes_are_refused_when_they_are_made(make, message):
    with pytest.raises(RecipeError, match=message):
        make()
