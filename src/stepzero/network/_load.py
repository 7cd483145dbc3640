"""From the text that names a model (`timm:resnet50`, `path/to/file.py:factory`) to the model."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import json
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, Literal

from torch import nn

from stepzero.errors import ModelError
from stepzero.network._calm import random_state_kept
from stepzero.network._factory_errors import articled
from stepzero.network._hollow import hollow_parameters
from stepzero.network._record import build
from stepzero.network._torchvision import import_torchvision

FORMS = "path/to/file.py:factory, package.module:factory, timm:NAME, torchvision:NAME or hf:path/to/config.json"

Factory = Callable[..., Any]


def load_model(
    name: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    device: Literal["meta", "cpu"] = "meta",
    record: bool = False,
) -> nn.Module:
    """Return the model that a text names.

    The global random state stays as it is. Nothing is downloaded.

    Args:
        name: `path/to/file.py:factory`, `package.module:factory`, `timm:NAME`, `torchvision:NAME` or
            `hf:path/to/config.json`. A factory is a module class, a function that returns a module, or a module.
        arguments: Keyword arguments for the factory; for `hf:` they change the configuration.
        device: `"meta"` builds parameters without memory (buffers are real); where a constructor needs their numbers,
            the model is built for real. `"cpu"` builds it as its author does.
        record: Whether to build with `build`, so that `recording(model)` tells the author's own init; on meta only.

    Raises:
        ModelError: if there is no such model, or if building it raises; the message names the line.
    """
    with random_state_kept(), warnings.catch_warnings(), _importable(name):
        warnings.simplefilter("ignore")
        factory = find_factory(name)
        _check_arguments(name, factory, arguments or {})
        make = partial(factory, **(arguments or {}))
        model = _told(name, "raised", partial(build, make)) if record else _build(name, make, device)
    if not isinstance(model, nn.Module):
        raise ModelError(f"{name} returned a {type(model).__name__}, not a torch.nn.Module.")
    return model


def find_factory(name: str) -> Factory:
    """Return the callable that builds the model that a text names."""
    scheme, colon, rest = name.partition(":")
    if scheme in SCHEMES and colon:
        return SCHEMES[scheme](rest)
    home, colon, attribute = name.rpartition(":")
    if not colon or not home or not attribute:
        raise ModelError(f"{name!r} does not name a model. Write {FORMS}.")
    return _attribute(name, _module(name, home), attribute)


def _build(name: str, make: Callable[[], Any], device: str) -> Any:
    if device == "meta":
        # Where this raises, the constructor needs numbers, or is wrong: then the build below says how.
        with contextlib.suppress(Exception, SystemExit), hollow_parameters():
            return make()
    return _told(name, "raised", make)


def _told(name: str, what: str, run: Callable[[], Any]) -> Any:
    """Run the user's code; what it raises becomes a ModelError with the line."""
    try:
        return run()
    except ModelError:
        raise
    except (Exception, SystemExit) as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        text = str(error).strip().splitlines()
        raise ModelError(
            f"{name} {what} {type(error).__name__} in {frame.filename}, line {frame.lineno}: {text[0] if text else ''}"
        ) from error


# Files and modules


def _module(name: str, home: str) -> ModuleType:
    if home.endswith(".py"):
        return _from_file(name, Path(home))
    try:
        found = importlib.util.find_spec(home)
    except (ModuleNotFoundError, ValueError):
        found = None
    if found is None:
        hint = f" For a file, write {home}.py:…" if Path(f"{home}.py").exists() else ""
        raise ModelError(f"{name}: there is no module {home!r} here or among the installed packages.{hint}")
    loaded: ModuleType = _told(name, "cannot be imported:", partial(importlib.import_module, home))
    return loaded


def _from_file(name: str, path: Path) -> ModuleType:
    if not path.is_file():
        near = get_close_matches(path.name, [p.name for p in path.parent.glob("*.py")] if path.parent.is_dir() else [])
        raise ModelError(f"{name}: there is no file {path}.{_suggest(near)}")
    module_name = f"_stepzero_{path.stem}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and pickles look it up
    _told(name, "cannot be imported:", partial(spec.loader.exec_module, module))
    return module


@contextlib.contextmanager
def _importable(name: str) -> Iterator[None]:
    """Let the model's file import its neighbours, as if it were run from its own folder."""
    home = Path(name.rpartition(":")[0])
    before = list(sys.path)
    sys.path[:0] = [str(home.parent.resolve()) if home.suffix == ".py" else str(Path.cwd())]
    try:
        yield
    finally:
        sys.path[:] = before


def _attribute(name: str, module: ModuleType, attribute: str) -> Factory:
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            public = [key for key, thing in vars(found).items() if callable(thing) and not key.startswith("_")]
            raise ModelError(
                f"{name}: there is no {attribute!r} in it.{_suggest(get_close_matches(part, public), public)}"
            )
        found = getattr(found, part)
    if isinstance(found, nn.Module):
        return lambda: found
    if not callable(found):
        raise ModelError(f"{name} is {articled(type(found))}, neither a module nor a function that returns one.")
    return found  # type: ignore[no-any-return]


def _check_arguments(name: str, factory: Factory, arguments: Mapping[str, Any]) -> None:
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(**arguments)
    except TypeError as error:
        takes = list(signature.parameters)
        odd = [key for key in arguments if key not in takes]
        near = get_close_matches(odd[0], takes) if odd else []
        raise ModelError(f"{name}: {error}.{_suggest(near)} It takes {', '.join(takes) or 'no arguments'}.") from None


def _suggest(near: list[str], known: list[str] | None = None) -> str:
    if near:
        return f" Did you mean {' or '.join(near)}?"
    return f" It has {', '.join(sorted(known)[:10])}." if known else ""


# Libraries


def _timm(name: str) -> Factory:
    with contextlib.suppress(ModelError):
        import_torchvision()
    timm = _library("timm")
    if not timm.is_model(name.partition(".")[0]):
        raise ModelError(f"timm has no model {name!r}.{_suggest(get_close_matches(name, timm.list_models()))}")
    return partial(timm.create_model, name, pretrained=False)


def _torchvision(name: str) -> Factory:
    models = import_torchvision().models
    if name not in models.list_models():
        raise ModelError(f"torchvision has no model {name!r}.{_suggest(get_close_matches(name, models.list_models()))}")
    builder = models.get_model_builder(name)
    weights = [key for key in ("weights", "weights_backbone") if key in inspect.signature(builder).parameters]
    return partial(builder, **dict.fromkeys(weights))


def _hf(place: str) -> Factory:
    path = Path(place) / "config.json" if Path(place).is_dir() else Path(place)
    if not path.is_file():
        raise ModelError(f"hf:{place}: there is no file {path}. Save the model's config.json and give its path.")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(f"hf:{place} is not JSON: {error}.") from None
    with contextlib.suppress(ModelError):
        import_torchvision()
    kind = "model_type" if "model_type" in config else "_class_name"
    if kind not in config:
        raise ModelError(f"hf:{place} has neither a model_type (transformers) nor a _class_name (diffusers).")
    return partial(_transformers if kind == "model_type" else _diffusers, path, config)


def _transformers(path: Path, config: dict[str, Any], /, **changes: Any) -> Any:
    transformers = _library("transformers")
    settings = transformers.AutoConfig.from_pretrained(str(path), **changes)
    for change in changes:
        if change not in settings.to_dict():
            near = get_close_matches(change, list(settings.to_dict()))
            raise ModelError(f"{config['model_type']} has no setting {change!r}.{_suggest(near)}")
    named = [getattr(transformers, name, None) for name in config.get("architectures") or ()]
    if named and named[0] is not None:
        return named[0](settings)
    return transformers.AutoModel.from_config(settings)


def _diffusers(path: Path, config: dict[str, Any], /, **changes: Any) -> Any:
    named = getattr(_library("diffusers"), config["_class_name"], None)
    if named is None:
        raise ModelError(f"diffusers has no {config['_class_name']!r}, which {path} asks for.")
    return named.from_config(config | changes)


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ModelError(f"{name} is not installed. Run: pip install {name}") from None


SCHEMES: Mapping[str, Callable[[str], Factory]] = MappingProxyType(
    {"timm": _timm, "torchvision": _torchvision, "hf": _hf}
)
