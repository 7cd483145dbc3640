"""Measured against predicted: the proof that a model is at step zero where its plan says."""

from ._check import Check as Check
from ._check import CheckRow as CheckRow
from ._check import check as check
