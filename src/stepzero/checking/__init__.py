"""Measured against predicted, and what an init gets wrong: the proof that a model is at step zero where its plan says."""

from ._check import check as check
from ._findings import SEVERITIES as SEVERITIES
from ._findings import Finding as Finding
from ._findings import Findings as Findings
from ._holding import Holding as Holding
from ._lint import LINTS as LINTS
from ._lint import lint as lint
from ._lint import select as select
from ._result import Check as Check
from ._result import CheckRow as CheckRow
from ._rule import Lint as Lint
from ._rule import Spot as Spot
from ._stock import Stock as Stock
from ._uses import Use as Use
