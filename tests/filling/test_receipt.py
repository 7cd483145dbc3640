"""Receipts: the digest stands for the bits, and people can read the rest."""

from dataclasses import replace

from stepzero.filling import Receipt, Written
from stepzero.laws import Normal

ENTRY = Written("w", (2, 3), "float32", Normal(0.5))
RECEIPT = Receipt(1, (ENTRY,), kept=("k",), computed=("c",))


def test_equal_digests_need_all_that_decides_a_value():
    assert replace(RECEIPT, kept=(), computed=()).digest == RECEIPT.digest  # nothing of theirs was drawn
    others = [
        replace(RECEIPT, seed=2),
        replace(RECEIPT, stream="another"),
        *(
            replace(RECEIPT, written=(replace(ENTRY, **change),))
            for change in (
                {"name": "v"},
                {"shape": (3, 2)},
                {"dtype": "float64"},
                {"law": Normal(0.6)},
                {"note": "row 0 zero: padding"},
            )
        ),
    ]
    assert len({RECEIPT.digest, *(other.digest for other in others)}) == len(others) + 1


def test_a_receipt_says_what_was_written_kept_and_computed():
    for shown in (str(RECEIPT), RECEIPT.to_markdown(), RECEIPT.to_html()):
        assert "1 parameters drawn with seed 1" in shown
        assert "Kept: k." in shown
        assert "Computed: c." in shown
    assert RECEIPT.to_dict()["written"] == [
        {"name": "w", "shape": [2, 3], "dtype": "float32", "law": Normal(0.5).to_dict()}
    ]
