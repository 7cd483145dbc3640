import pytest

from stepzero.laws import Constant, Kept, Normal
from stepzero.planning import Entry, Plan
from stepzero.reporting import plan_document, text


@pytest.fixture
def plan():
    weights = [
        Entry(
            f"layer{at}.0.conv1.weight", (512, 256, 3, 3), "float32", Normal(0.0295), fan_in=2264.5, gain=1.404,
            second_moment=1.0, gradient_second_moment=0.0123, reasons=("holds E[z²] = 1",), recipe="forward",
        )
        for at in range(5)
    ]  # fmt: skip
    biases = [Entry(f"layer{at}.0.conv1.bias", (512,), "float32", Constant(0.0)) for at in range(5)]
    kept = Entry("position", (1, 8), "float32", Kept(), recipe="kept", reasons=("no op that it feeds is known",))
    return Plan((*weights, *biases, kept), model="net", inputs="x: float32 (1, 3, 32, 32)", notes=("a note",))


def test_the_table_of_a_convolutional_net_fits_a_terminal_of_80_columns(plan, golden):
    shown = text(plan_document(plan))
    assert max(map(len, shown.splitlines())) <= 80
    golden("plan.txt", shown + "\n")


def test_a_zero_weight_has_a_row_while_a_zero_bias_shares_a_line():
    zero = Entry("conv3.weight", (4, 4), "float32", Constant(0.0), fan_in=4.0)
    bias = Entry("conv3.bias", (4,), "float32", Constant(0.0))
    table, lines = plan_document(Plan((zero, bias))).blocks[1:3]
    assert [row[0] for row in table.rows] == ["conv3.weight"]
    assert lines.lines == ("constant 0: conv3.bias",)


def test_what_is_kept_is_told(plan):
    assert "10 drawn, 1 kept" in text(plan_document(plan))
    assert "- kept: position" in text(plan_document(plan))


def test_everything_means_a_row_for_each_parameter_and_every_reason(plan, golden):
    golden("plan.md", plan.to_markdown())
    golden("plan.html", plan.to_html())
    assert all(name in plan.to_markdown() for name in plan)


def test_a_long_plan_is_folded_in_a_repr_but_not_in_print():
    long = Plan(tuple(Entry(f"fc{at}.weight", (4, 4), "float32", Normal(0.5)) for at in range(100)))
    assert "60 more rows" in repr(long)
    assert all(name in str(long) for name in long)
