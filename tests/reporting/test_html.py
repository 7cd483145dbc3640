from html.parser import HTMLParser

from stepzero.reporting import Column, Document, Heading, Items, Table, html, page

DOCUMENT = Document(
    "<script>", ("a & b", Table((Column("<Name>", "left"), Column("Std")), (("x<y", "1"),)), Items(("i < j",)))
)


class Outline(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.texts, self.tags = [], [], []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts += [data] if data.strip() and self.open[-1:] != ["style"] else []


def test_every_tag_is_closed_and_every_text_is_escaped():
    outline = Outline()
    outline.feed(html(DOCUMENT))
    assert outline.open == []
    assert outline.texts == ["<script>", "a & b", "<Name>", "Std", "x<y", "1", "i < j"]
    assert "script" not in outline.tags


def test_cells_stand_where_their_column_says():
    assert '<td style="text-align:left">x&lt;y</td><td style="text-align:right">1</td>' in html(DOCUMENT)


def test_rows_that_are_flagged_stand_out_and_stay_flagged_where_the_table_is_folded():
    rows = tuple((str(at),) for at in range(6))
    table = Table((Column("n"),), rows, frozenset({0, 2, 5}))
    assert html(Document("t", (table,))).count('class="flagged"') == 3
    folded = table.folded(2)
    assert [folded.rows[at] for at in sorted(folded.flagged)] == [("0",), ("5",)]


def test_a_page_is_whole_and_says_how_its_letters_are_written():
    made = page(html(Document("E[z²]", (Heading("a < b"),))), "E[z²] <x>")
    outline = Outline()
    outline.feed(
        made.replace("<!doctype html>\n", "")
        .replace('<meta charset="utf-8">', "")
        .replace('<meta name="viewport" content="width=device-width, initial-scale=1">', "")
    )
    assert outline.open == []
    assert outline.texts == ["E[z²] <x>", "E[z²]", "a < b"]
    assert made.startswith("<!doctype html>")
    assert '<meta charset="utf-8">' in made


def test_nothing_is_loaded_from_elsewhere():
    made = page(html(DOCUMENT), "t")
    assert not any(word in made for word in ("http:", "https:", "@import", "url(", "<script"))
