from html.parser import HTMLParser

from stepzero.reporting import Column, Document, Items, Table, html

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
        self.texts += [data] if data.strip() else []


def test_every_tag_is_closed_and_every_text_is_escaped():
    outline = Outline()
    outline.feed(html(DOCUMENT))
    assert outline.open == []
    assert outline.texts == ["<script>", "a & b", "<Name>", "Std", "x<y", "1", "i < j"]
    assert "script" not in outline.tags


def test_cells_stand_where_their_column_says():
    assert '<td style="text-align:left">x&lt;y</td><td style="text-align:right">1</td>' in html(DOCUMENT)
