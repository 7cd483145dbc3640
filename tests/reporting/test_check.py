from types import SimpleNamespace

from stepzero.reporting import check_document, text


def row(name, *, ok=True, **changes):
    values = {
        "name": name, "op": "conv2d", "module": name, "predicted": 1.0, "measured": 1.02, "ratio": 1.02, "z": 0.4,
        "local_predicted": 1.0, "local_measured": 0.99, "gradient_predicted": 0.2, "gradient_measured": 0.19,
        "spread": 0.5, "ok": ok, "message": "" if ok else "second moment 3.1 times too high",
    }  # fmt: skip
    return SimpleNamespace(**(values | changes))


def check(*rows):
    ok = all(row.ok for row in rows)
    return SimpleNamespace(
        ok=ok, rows=rows, notes=("drawn once",), verdict="All layers as predicted." if ok else "1 layer is not."
    )


def test_a_check_that_passes_fits_a_terminal(golden):
    shown = text(check_document(check(row("conv1.weight"), row("layer4.1.conv2.weight"))))
    assert max(map(len, shown.splitlines())) <= 80
    golden("check.txt", shown + "\n")


def test_a_row_that_fails_is_marked_and_explained_even_where_the_table_is_folded():
    rows = [row(f"conv{at}", ok=at != 5) for at in range(10)]
    shown = text(check_document(check(*rows), most=2))
    assert shown.startswith("Check: FAIL")
    assert "- conv5: second moment 3.1 times too high" in shown


def test_what_was_not_measured_is_a_dash_and_a_prediction_of_zero_has_no_ratio():
    table = check_document(check(row("fc", gradient_predicted=None, local_predicted=0.0, spread=None))).blocks[1]
    assert table.rows[0][5:8] == ("-", "-", "-")
