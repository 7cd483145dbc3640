from types import SimpleNamespace

import pytest

from stepzero.checking import Finding, Findings
from stepzero.reporting import findings_document, html, markdown, text


def findings(*made):
    return Findings(made, "UNet", ("copies", "grouped-fan", "unwritten"), {"copies": "pytorch#86274"}, ("no inputs",))


def found(rule, severity, where):
    return Finding(rule, severity, where, f"{where} is <off> by 31.", {"ratio": 31.0}, "Draw it anew.")


EXAMPLES = (
    *(found("copies", "warning", f"layers.{at}.self_attn.in_proj_weight") for at in range(1, 6)),
    found("grouped-fan", "note", "features.1.conv.0.0.weight"),
    found("unwritten", "error", "scale"),
)


def test_findings_fit_a_terminal_worst_first_and_many_places_are_counted(golden):
    shown = text(findings_document(findings(*EXAMPLES)))
    assert max(map(len, shown.splitlines())) <= 80
    assert shown.index("error: unwritten") < shown.index("warning: copies (pytorch#86274)")
    assert "and 2 more, up to layers.5.self_attn.in_proj_weight" in shown
    golden("findings.txt", shown + "\n")


def test_everything_can_be_told(golden):
    shown = markdown(findings_document(findings(*EXAMPLES), everything=True))
    assert all(finding.where.replace("_", "\\_") in shown for finding in EXAMPLES)
    golden("findings.md", shown)


def test_a_page_escapes_what_it_quotes(golden):
    page = html(findings_document(findings(*EXAMPLES)))
    assert "&lt;off&gt;" in page
    assert "<off>" not in page
    golden("findings.html", page)


def test_no_findings_are_clean():
    shown = text(findings_document(findings()))
    assert shown.startswith("Lint of UNet: clean\n\nNothing found; 3 rules asked.")


@pytest.mark.parametrize(("worst", "verdict"), [("error", "FAIL"), ("warning", "pass"), ("note", "pass")])
def test_only_errors_fail(worst, verdict):
    some = findings(found("copies", worst, "a"))
    assert findings_document(some).title == f"Lint of UNet: {verdict}"
    assert some.ok == (worst != "error")


def test_findings_print_like_their_document():
    some = findings(*EXAMPLES)
    assert str(some) == repr(some) == text(findings_document(some))
    assert some._repr_html_() == some.to_html()
    assert some.to_markdown().startswith("## Lint of UNet: FAIL")
    assert SimpleNamespace(**some.to_dict()).counts == {"error": 1, "warning": 5, "note": 1}
