from hypothesis import given
from hypothesis import strategies as st

from stepzero.reporting import Column, Document, Items, Table, text

NAME = Column("Name", "left", overflow=True)
SIZE = Column("Size")


def document(*names, width_of_size=4):
    return Document("A title", (Table((NAME, SIZE), tuple((name, "9" * width_of_size) for name in names)),))


def test_columns_line_up_and_titles_stand_above_a_rule():
    assert text(document("conv1", "fc")) == ("A title\n\nName   Size\n─────  ────\nconv1  9999\nfc     9999")


def test_a_name_too_long_for_its_column_stands_on_a_line_of_its_own_and_is_never_cut():
    lines = text(document("a" * 50, "short"), width=30).splitlines()
    at = lines.index("a" * 50)
    assert lines[at + 1].strip() == "9999"
    assert lines[at + 2].split() == ["short", "9999"]


@given(st.lists(st.text("abc.weight", min_size=1, max_size=60), min_size=1, max_size=8), st.integers(40, 200))
def test_every_cell_of_a_table_can_be_found_in_its_text(names, width):
    shown = text(document(*names), width)
    assert all(name in shown for name in names)


@given(st.lists(st.text("abc.weight", min_size=1, max_size=70), min_size=1, max_size=8))
def test_no_line_is_longer_than_the_terminal_unless_it_is_one_name(names):
    assert all(len(line) <= 80 or line in names for line in text(document(*names)).splitlines())


def test_a_pipe_gets_every_row_on_one_line():
    rows = text(document("a" * 200, "b"), width=None).splitlines()
    assert rows[-2].split() == ["a" * 200, "9999"]


def test_paragraphs_and_items_wrap_at_the_width():
    shown = text(Document("T", ("word " * 40, Items(("item " * 40,)))))
    assert max(map(len, shown.splitlines())) <= 80
    assert "\n- item" in shown
    assert "\n  item" in shown
