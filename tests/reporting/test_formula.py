"""Formulas: one tree, three settings, and its value."""

import pytest

from stepzero.reporting import Equation, Name, Number, Over, Plus, Root, Square, Times, value
from stepzero.reporting._formula import as_latex, as_mathml, as_text

STD = Over(Number(2**0.5), Root(Times((Number(3), Number(25)))))
LEAKY = Over(Plus((Number(1), Square(Number(0.1)))), Number(2))


def test_a_formula_comes_to_its_value():
    assert value(STD) == pytest.approx((2 / 75) ** 0.5)
    assert value(LEAKY) == pytest.approx(0.505)
    assert value(Root(Name("fan", "in"))) is None


def test_text_keeps_together_what_belongs_together():
    assert as_text(STD) == "1.4142 / √(3 · 25)"
    assert as_text(LEAKY) == "(1 + 0.1²) / 2"
    assert str(Equation((Name("fan", "in"), Number(25)))) == "fan_in = 25"


def test_latex_and_mathml_say_the_same():
    assert as_latex(STD) == r"\frac{1.4142}{\sqrt{3 \cdot 25}}"
    assert as_latex(Square(Plus((Name("a"), Number(1))))) == r"\left(\text{a} + 1\right)^2"
    assert as_mathml(LEAKY) == (
        "<mfrac><mrow><mn>1</mn><mo>+</mo><msup><mrow><mn>0.1</mn></mrow><mn>2</mn></msup></mrow><mrow><mn>2</mn></mrow></mfrac>"
    )
    assert as_mathml(Name("x<y", "in")) == "<msub><mi>x&lt;y</mi><mtext>in</mtext></msub>"


@pytest.mark.parametrize(
    ("number", "text"), [(25.0, "25"), (0.282842, "0.28284"), (float("inf"), "∞"), (1e-7, "1e-07")]
)
def test_numbers_print_short(number, text):
    assert str(Number(number)) == text
