import math

import pytest

from stepzero.errors import PlanError
from stepzero.laws import Constant, Dirac, Kept, Normal, Orthogonal
from stepzero.planning import Entry


def entry(**changes):
    values = {"name": "conv.weight", "shape": (8, 4, 3, 3), "dtype": "float32", "law": Normal(0.1)}
    return Entry(**(values | changes))


def test_std_is_that_of_the_law():
    assert entry().std == 0.1
    assert entry(law=Constant(1.0)).std == 0.0


def test_std_of_a_law_that_depends_on_the_shape_is_the_root_mean_square_deviation_of_its_elements():
    orthogonal = entry(shape=(8, 4), law=Orthogonal(1.0))
    assert orthogonal.std == pytest.approx(math.sqrt(1 / 8), rel=1e-12)  # 8×4 with orthonormal columns: 4 units over 32


def test_std_of_fixed_values_is_zero_and_of_a_kept_parameter_unknown():
    assert entry(law=Dirac()).std == 0.0
    assert entry(law=Kept()).std is None


def test_a_torch_dtype_and_a_list_as_shape_are_normalised():
    made = entry(shape=[8, 4], dtype="torch.bfloat16", reasons=["because"])
    assert (made.shape, made.dtype, made.reasons) == ((8, 4), "bfloat16", ("because",))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "needs the name of a parameter"),
        ({"law": 0.1}, r"conv\.weight: 0\.1 is not a law"),
        ({"shape": (8, -1)}, r"conv\.weight: \(8, -1\) is not a shape"),
        ({"shape": 7}, r"conv\.weight: 7 is not a shape"),
        ({"shape": (8,), "law": Orthogonal(1.0)}, r"conv\.weight: "),
    ],
)
def test_an_entry_that_cannot_be_is_refused(changes, message):
    with pytest.raises(PlanError, match=message):
        entry(**changes)


def test_an_entry_survives_the_way_to_plain_data_and_back():
    full = entry(
        recipe="forward", reasons=("a", "b"), second_moment=1.0, gradient_second_moment=math.inf, fan_in=36.0,
        fan_out=72.0, gain=1.2, op="conv2d", module="conv",
    )  # fmt: skip
    assert Entry.from_dict("conv.weight", full.to_dict()) == full
    assert Entry.from_dict("conv.weight", entry().to_dict()) == entry()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stdd": 0.1}, "an entry has the fields"),
        ({"law": {"law": "norml"}}, "'norml' is not a law"),
        ({"fan_in": "many"}, "many"),
    ],
)
def test_plain_data_that_is_no_entry_is_refused_with_the_parameter_named(change, message):
    with pytest.raises(PlanError, match=rf"^conv\.weight: .*{message}"):
        Entry.from_dict("conv.weight", entry().to_dict() | change)


def test_a_missing_field_is_refused():
    with pytest.raises(PlanError, match="shape, dtype and law are needed"):
        Entry.from_dict("conv.weight", {"shape": [8]})
