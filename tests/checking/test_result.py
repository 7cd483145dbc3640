from stepzero.checking import Check, CheckRow


def row(at: int) -> CheckRow:
    name = f"layers.{at}.weight"
    return CheckRow(
        name, "linear", name, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.5, at != 50, "off" * (at == 50)
    )


def test_a_notebook_folds_a_long_table_and_still_tells_what_fails_while_print_shows_all():
    made = Check(tuple(map(row, range(100))), "1 of 100", ok=False)
    assert str(made).count("layers.") == 101
    assert repr(made).count("layers.") == 41
    assert "… 60 more rows …" in made._repr_html_()
    assert "layers.50.weight: off" in made._repr_html_()
    assert "layers.50.weight: off" in repr(made)
    assert made.to_html().count("<tr") == 101


def test_a_check_as_data_holds_every_row():
    data = Check((row(1), row(50)), "1 of 2", ok=False, notes=("drawn once",)).to_dict()
    assert [each["ok"] for each in data["rows"]] == [True, False]
    assert data["notes"] == ["drawn once"]
    assert Check((row(1),), "fine", ok=True).to_markdown().startswith("## Check: pass")
