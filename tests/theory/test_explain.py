"""Explanations: every number that is printed is computed again, from the formula beside it and from first principles."""

import json
import math
import re
import xml.etree.ElementTree as ET

import pytest
from torch import nn

from stepzero.errors import ActivationError, FanError, RecipeError
from stepzero.reporting import Number, value
from stepzero.theory import activation, explain, fans, gain

CASES = [
    (((32, 1, 5, 5),), {}),
    (((32, 1, 5, 5),), {"mode": "fan_out"}),
    (((10, 784), "leaky_relu", 0.1), {"distribution": "truncated_normal"}),
    (((10, 784), "linear"), {"mode": "fan_avg", "distribution": "normal"}),
    (((64, 32, 3, 3), "gelu"), {"transposed": True, "stride": 2, "mode": "fan_out"}),
    (((64, 32, 3, 3), "tanh"), {"mode": "fan_geo_avg", "stride": 2}),
    (((16, 8, 3, 3), "silu"), {"padding": 1, "input_size": 7}),
    (((64, 32, 2, 2), "relu"), {"transposed": True, "stride": 3}),
    (((768, 2304), "gelu"), {"layout": "IO"}),
    (((1536, 512), "linear"), {"parts": 3}),
    ((nn.Conv2d(8, 16, 3, padding=1, groups=2), nn.PReLU()), {"input_size": 14}),
    ((nn.LSTM(4, 8), "sigmoid"), {"weight": "weight_hh_l0"}),
    ((nn.Linear(20, 30), "swiglu"), {}),
]
IDS = [str(i) for i in range(len(CASES))]


def told(arguments, options):
    return explain(*arguments, **options)


@pytest.mark.parametrize(("arguments", "options"), CASES, ids=IDS)
def test_every_equation_holds(arguments, options):
    count = 0
    for step in told(arguments, options).steps:
        for equation in step.equations:
            known = [found for found in map(value, equation.sides) if found is not None]
            count += len(known) > 1
            assert known == pytest.approx([known[0]] * len(known), rel=1e-12) if known else True, str(equation)
            assert not known or isinstance(equation.sides[-1], Number)
    assert count >= 5  # the rule above compared something


@pytest.mark.parametrize(("arguments", "options"), CASES, ids=IDS)
def test_the_numbers_are_those_of_fans_and_gain(arguments, options):
    found = told(arguments, options).numbers
    geometry = {key: each for key, each in options.items() if key not in ("mode", "distribution")}
    counted = fans(arguments[0], **geometry)
    assert (found["fan_in"], found["fan_out"]) == tuple(counted)
    assert found["gain"] == gain(*arguments[1:] or ("relu",))
    assert found["std"] == pytest.approx(
        found["gain"] / math.sqrt(counted.of(options.get("mode", "fan_in"))), rel=1e-14
    )
    assert ("bound" in found) == (options.get("distribution", "uniform") == "uniform")


def test_the_articles_layer_in_numbers_of_its_own():
    """Every number of the text, recomputed with nothing but arithmetic."""
    text = str(explain((32, 1, 5, 5)))
    std = math.sqrt(2 / 25)
    default = 1 / math.sqrt(3 * 25)
    for line in (
        "columns = k · k · c = 5 · 5 · 1 = 25",
        "fan_in = 5 · 5 · 1 = 25",
        "fan_out = 5 · 5 · 32 = 800",
        "E[φ(z)²] = (1 + 0²) / 2 = 0.5",
        f"gain = 1 / √E[φ(z)²] = 1 / √0.5 = {math.sqrt(2):.5g}",
        f"std = gain / √fan_in = {math.sqrt(2):.5g} / √25 = {std:.5g}",
        f"b = √3 · std = √3 · {std:.5g} = {math.sqrt(3) * std:.5g}",
        f"std with fan_out = {math.sqrt(2):.5g} / √800 = {math.sqrt(2 / 800):.5g}",
        f"this std / that std = {std:.5g} / {math.sqrt(2 / 800):.5g} = {math.sqrt(32):.5g}",
        f"bound = 1 / √torch's fan = 1 / √25 = {1 / 5:.5g}",
        f"= 1 / √(3 · 25) = {default:.5g}",
        f"this std / torch's std = {std:.5g} / {default:.5g} = {math.sqrt(6):.5g}",
        f"= {1 / 6:.5g}",
        "32 filters of 5×5 taps and 1 input channel are the rows of a 32 × 25 matrix W",
    ):
        assert line in re.sub(r"\s+", " ", text), line
    numbers = {float(found) for found in re.findall(r"(?<![\w.])\d+\.?\d*(?![\w.])", text)}
    known = {1, 2, 3, 5, 25, 32, 800, 0, 0.5, 1.4142, 0.28284, 0.4899, 0.05, 5.6569, 0.2, 0.11547, 2.4495, 0.16667, 75}
    cited = {2015, 2016, 2.2, 8, 10, 11, 14, 15, 7, 12, 2017}  # years, sections, equations
    steps = set(range(1, 12))
    assert numbers <= known | cited | steps


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (
            (),
            {},
            [
                "where √3 comes from",
                "E[x²] and not Var[x]",
                "half of the mean square is left",
                "a = √5",
                "Had one chosen fan_out",
            ],
        ),
        (("leaky_relu", 0.3), {}, ["multiplied by a = 0.3", "with a = 1 nothing is lost"]),
        (("linear",), {}, ["the 2 of relu is a 1 here"]),
        (("gelu",), {}, ["an integral over the bell curve", "unstable"]),
        (("gelu",), {"mode": "fan_out"}, ["takes the forward gain for both", "keeps its size", "also backwards"]),
        (("relu",), {"mode": "fan_avg"}, ["neither is held exactly", "fan_avg = (25 + 800) / 2 = 412.5"]),
        (("relu",), {"stride": 2}, ["the stride leaves a part of the taps without a partner", "A checkerboard"]),
        (
            ("relu",),
            {"padding": 2, "input_size": 14},
            ["at the border of the map some taps fall outside", "blind to what the geometry does"],
        ),
        (("relu",), {"distribution": "normal"}, ["N(0, std²)"]),
        (("relu",), {"distribution": "truncated_normal"}, ["Cutting a normal at ±2σ"]),
    ],
)
def test_the_articles_questions_are_answered(arguments, options, words):
    text = re.sub(r"\s+", " ", str(explain((32, 1, 5, 5), *arguments, **options)))
    for each in words:
        assert each in text


def test_a_transposed_convolution_is_explained_as_such():
    text = re.sub(r"\s+", " ", str(explain((512, 3, 4, 4), transposed=True, stride=2)))
    assert "stamps every input through its kernel" in text
    assert "fan_in = 2 · 2 · 512 = 2048" in text
    assert "torch reads its fan, 48, off the shape alone" in text


def test_layers_whose_default_is_another_are_not_told_torchs_linear_default():
    assert "What torch does unasked" not in str(explain(nn.LSTM(4, 8), "tanh"))
    assert "What torch does unasked" not in str(explain((512, 1536), "relu", layout="IO"))
    assert "What torch does unasked" in str(explain(nn.Conv1d(4, 8, 3)))


@pytest.mark.parametrize(("arguments", "options"), CASES, ids=IDS)
def test_text_fits_a_terminal_and_html_is_well_formed(arguments, options):
    found = told(arguments, options)
    assert max(map(len, str(found).splitlines())) <= 80
    tree = ET.fromstring(found.to_html())
    assert len(list(tree.iter("math"))) == sum(len(step.equations) for step in found.steps)
    assert found.to_markdown().count("$$") == 2 * len(list(tree.iter("math")))
    assert json.loads(json.dumps(found.to_dict()))["std"] == found.numbers["std"]
    assert found._repr_html_() == found.to_html()
    assert f"std={found.numbers['std']:.6g}" in repr(found)


def test_the_verdict_on_depth_is_the_activations():
    assert activation("gelu").stability.consequence in re.sub(r"\s+", " ", str(explain((3, 3), "gelu")))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: explain((7,)), FanError, "at least 2 axes"),
        (lambda: explain((7, 7), "gelo"), ActivationError, "Did you mean gelu"),
        (lambda: explain((7, 7), mode="fan_middle"), RecipeError, "Choose one of fan_in"),
        (lambda: explain((7, 7), distribution="cauchy"), RecipeError, "distribution='cauchy' is unknown"),
        (lambda: explain(nn.LayerNorm(3)), FanError, "no layer with a known layout"),
    ],
)
def test_what_cannot_be_explained_is_an_error(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(("suffix", "setting"), [("txt", "__str__"), ("md", "to_markdown"), ("html", "to_html")])
def test_the_articles_explanation_reads_as_it_was_read_aloud(golden, suffix, setting):
    golden(f"explain.{suffix}", getattr(explain((32, 1, 5, 5)), setting)())
