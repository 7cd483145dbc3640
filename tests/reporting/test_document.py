import pytest

from stepzero.reporting import Column, Document, Items, Table

COLUMNS = (Column("Name", "left"), Column("Size"))


def table(rows):
    return Table(COLUMNS, tuple((str(row), "1") for row in range(rows)))


def test_folding_keeps_head_and_tail_and_counts_the_rest():
    folded = table(10).folded(4)
    assert [row[0] for row in folded.rows] == ["0", "1", "… 6 more rows …", "8", "9"]


@pytest.mark.parametrize("most", [None, 10, 11])
def test_a_table_that_fits_is_not_folded(most):
    assert table(10).folded(most) == table(10)


def test_folding_to_an_odd_number_of_rows_keeps_that_many():
    assert len(table(10).folded(3).rows) == 3 + 1


def test_a_row_with_a_missing_cell_is_refused():
    with pytest.raises(ValueError, match="a row of 1 cells under 2 columns"):
        Table(COLUMNS, (("conv1",),))


def test_empty_blocks_are_left_out():
    assert Document.of("T", ("", Items(()), table(0), "kept")).blocks == ("kept",)
