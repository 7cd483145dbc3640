"""Every exception that stepzero raises on purpose, as one tree.

Each class also inherits the builtin that a caller would expect, so `except ValueError` keeps working.
A message says what is wrong, where, what is known, and what to do.
"""

from __future__ import annotations

__all__ = [
    "ActivationError",
    "ApplyError",
    "CaptureError",
    "CheckError",
    "FanError",
    "FileError",
    "InputError",
    "LawError",
    "ModelError",
    "NoRuleError",
    "PlanError",
    "RecipeError",
    "RenameError",
    "SeedError",
    "StepZeroError",
]


class StepZeroError(Exception):
    """Base of every error that stepzero raises on purpose."""


class FanError(StepZeroError, ValueError):
    """A shape or a geometry that has no fan."""


class ActivationError(StepZeroError, ValueError):
    """An activation that is unknown, not elementwise, not finite or random."""


class LawError(StepZeroError, ValueError):
    """A distribution that cannot exist, or that cannot be drawn for this shape."""


class RecipeError(StepZeroError, ValueError):
    """A recipe that is unknown or has an impossible setting."""


class SeedError(StepZeroError, ValueError):
    """A seed outside 0 … 2^64 - 1."""


class InputError(StepZeroError, ValueError):
    """Example inputs that do not describe a call of the model."""


class ModelError(StepZeroError, ValueError):
    """A model that cannot be found, built or read."""


class CaptureError(StepZeroError, RuntimeError):
    """A forward pass that could not be recorded."""


class NoRuleError(StepZeroError, NotImplementedError):
    """An op that no propagation rule covers and that cannot be probed."""


class PlanError(StepZeroError, ValueError):
    """A plan that cannot be made, read or matched to this model."""


class ApplyError(StepZeroError, RuntimeError):
    """Values that could not be written; the model is as it was."""


class RenameError(StepZeroError, ValueError):
    """A rule for names that cannot be read, or that has no effect."""


class CheckError(StepZeroError, RuntimeError):
    """A model that could not be measured."""


class FileError(StepZeroError, OSError):
    """A file that cannot be read, or that must not be overwritten."""
