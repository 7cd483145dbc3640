"""Reports: a value in, a string out; and a string into a file, whole or not at all.

Values describe themselves as a `Document` (a title, paragraphs, tables); `text`, `markdown` and `html` set it.
The room imports nothing but the errors, so every other room may print itself through it.
"""

from ._cells import count as count
from ._cells import fan as fan
from ._cells import law_name as law_name
from ._cells import number as number
from ._cells import shape as shape
from ._check import check_document as check_document
from ._document import Block as Block
from ._document import Column as Column
from ._document import Document as Document
from ._document import Heading as Heading
from ._document import Items as Items
from ._document import Table as Table
from ._explanation import Step as Step
from ._explanation import explanation_html as explanation_html
from ._explanation import explanation_markdown as explanation_markdown
from ._explanation import explanation_text as explanation_text
from ._files import read_text as read_text
from ._files import write_text as write_text
from ._findings import findings_document as findings_document
from ._formula import Equation as Equation
from ._formula import Formula as Formula
from ._formula import Name as Name
from ._formula import Number as Number
from ._formula import Over as Over
from ._formula import Plus as Plus
from ._formula import Root as Root
from ._formula import Square as Square
from ._formula import Times as Times
from ._formula import value as value
from ._html import html as html
from ._json import dumps as dumps
from ._markdown import markdown as markdown
from ._page import page as page
from ._plan import plan_document as plan_document
from ._text import text as text
