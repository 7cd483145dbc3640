"""A law for each parameter, and why."""

from ._entry import Entry as Entry
from ._plan import Plan as Plan
