from stepzero.reporting import Column, Document, Items, Table, markdown


def test_a_table_has_a_rule_that_carries_the_alignment():
    table = Table((Column("Name", "left"), Column("Std")), (("conv1.weight", "0.1"),))
    assert markdown(Document("Plan", (table,))) == (
        "## Plan\n\n| Name | Std |\n| :--- | ---: |\n| conv1.weight | 0.1 |\n"
    )


def test_characters_that_markdown_would_read_are_escaped():
    shown = markdown(Document("a|b", ("*x* <b>", Items(("[link](y)",)))))
    assert shown == "## a\\|b\n\n\\*x\\* \\<b\\>\n\n- \\[link\\](y)\n"
