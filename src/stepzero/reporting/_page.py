"""How reports look in a browser: one style for all, scoped to a section; and a section as a whole page."""

from __future__ import annotations

from html import escape

STYLE = """<style>
.stepzero { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; overflow-wrap: anywhere; }
.stepzero h2 { font-size: 1.4em; margin: 0 0 .6em; }
.stepzero h3 { font-size: 1.05em; margin: 1.2em 0 .3em; }
.stepzero p, .stepzero ul { margin: .5em 0; }
.stepzero table { display: block; width: fit-content; max-width: 100%; overflow-x: auto; border-collapse: collapse; margin: .8em 0; font-size: .93em; }
.stepzero th, .stepzero td { padding: .18em .7em; white-space: nowrap; font-variant-numeric: tabular-nums; border: 0; }
.stepzero th { font-weight: 600; border-bottom: 1px solid #8888; }
.stepzero tbody tr:nth-child(even) { background: #8881; }
.stepzero tr.flagged { color: #d32f2f; font-weight: 600; }
.stepzero cite { color: #888; font-size: .9em; }
.stepzero math[display="block"] { overflow-x: auto; overflow-y: hidden; max-width: 100%; }
</style>"""
OPENING = f'<section class="stepzero">\n{STYLE}'


# A notebook's own theme may paint another background than the browser's, so only whole pages cover what scrolls beneath.
PAGE_STYLE = """<style>
:root { color-scheme: light dark; }
body { margin: 1.5rem auto; padding: 0 1rem; max-width: 76rem; }
.stepzero th:first-child, .stepzero td:first-child { position: sticky; left: 0; background: Canvas; }
.stepzero tbody tr:nth-child(even) td:first-child { background: linear-gradient(#8881, #8881), Canvas; }
@media (max-width: 40rem) { .stepzero td:first-child { white-space: normal; min-width: 7rem; max-width: 42vw; } }
</style>"""


def page(section: str, title: str) -> str:
    """Return a whole HTML page around sections: with its character set, and fit for narrow and dark screens.

    Args:
        section: What `html` or `explanation_html` made, one or more of them.
        title: What the browser's tab shows.
    """
    return (
        "<!doctype html>\n"
        '<html lang="en">\n'
        "<head>\n"
        '<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n"
        f"{PAGE_STYLE}\n"
        "</head>\n"
        f"<body>\n{section}</body>\n"
        "</html>\n"
    )
