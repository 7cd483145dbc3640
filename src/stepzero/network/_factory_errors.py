"""What went wrong in a factory, where, and what to do about it: the messages of `build`."""

from __future__ import annotations

from stepzero.errors import ModelError
from stepzero.network._constructing import places_of


def refused(factory: object) -> ModelError | None:
    """Return why something is no factory, or None."""
    if callable(factory) and not _is_module(factory):
        return None
    what = "a model that is built already" if _is_module(factory) else f"{factory!r}, which cannot be called"
    return ModelError(
        f"build takes a function that makes the model, got {what}. Wrap its making: build(lambda: Net(width=64))."
    )


def returned(thing: object) -> ModelError:
    """Return the error of a factory that made no module."""
    kind = type(thing)
    advice = next((advice for known, advice in RETURNED if isinstance(thing, known)), "Return the module.")
    return ModelError(f"the factory returned {articled(kind)}, not a torch.nn.Module. {advice}")


def articled(kind: type) -> str:
    """Return a type's name with its article."""
    return f"{'an' if kind.__name__[:1].lower() in 'aeiou' else 'a'} {kind.__name__}"


def raised(error: BaseException) -> ModelError:
    """Return the error of a factory that raised: with its line, and what to do where that is known."""
    words = str(error).strip().rstrip(".")
    told = f"the factory raised {type(error).__name__}{_where(error)}{': ' if words else ''}{words}."
    return ModelError(f"{told} {advice}" if (advice := advice_on(error)) else told)


def advice_on(error: BaseException) -> str:
    """Return what to do about errors that many factories run into, as a sentence; "" for others."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return next((advice for kinds, words, advice in ADVICE if names & kinds or any(w in str(error) for w in words)), "")


def is_final(error: BaseException) -> bool:
    """Say whether building for real would run into the same error, at the cost of another download."""
    return advice_on(error) == DOWNLOADS


def _where(error: BaseException) -> str:
    """Return the lines of an error: the innermost, and that of the factory where it is another."""
    places = places_of(error)
    if not places:
        return ""
    return f" at {places[-1]}" + (f" (from {places[0]})" if places[0] != places[-1] else "")


def _is_module(thing: object) -> bool:
    return any(kind.__module__ == "torch.nn.modules.module" for kind in type(thing).__mro__)


# What a factory returned instead, and what to do.
RETURNED: tuple[tuple[type, str], ...] = (
    (type(None), "Does it lack a `return`?"),
    (type, "That is the class: return an instance of it, with its arguments."),
    (dict, "Values without layers are no model: build the module that they belong to."),
    (tuple, "Return the module alone: build(lambda: make()[0])."),
    (list, "Wrap the layers: torch.nn.Sequential(*layers), or torch.nn.ModuleList."),
)
DOWNLOADS = "It downloads: make it build without pretrained weights (weights=None, pretrained=False, or from its configuration)."
# Kinds of error, or words in them, and what to do.
ADVICE: tuple[tuple[frozenset[str], tuple[str, ...], str], ...] = (
    (
        frozenset({"URLError", "HTTPError", "ConnectionError", "LocalEntryNotFoundError", "OfflineModeIsEnabled"}),
        ("urlopen", "download", "connect to", "internet connection"),
        DOWNLOADS,
    ),
    (
        frozenset({"AcceleratorError"}),
        ("CUDA", "cuda", "NVIDIA", "ROCm"),
        "It asks for a GPU: make it build on the CPU; the plan is materialised on any device afterwards.",
    ),
    (frozenset({"SystemExit"}), (), "It leaves the program: make it raise an error, or return the model."),
    (
        frozenset({"FileNotFoundError"}),
        (),
        "It reads a file that is not there: give the full path, or build without it; values are not needed here.",
    ),
    (frozenset(), ("before Module.__init__()",), "Call super().__init__() first."),
    (
        frozenset(),
        ("required positional argument", "required keyword-only argument"),
        "Wrap it: build(lambda: Net(width=64)).",
    ),
)
