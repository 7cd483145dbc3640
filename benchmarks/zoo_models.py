"""Every model of the zoo: how it is built without memory for its parameters, and what it is fed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from types import MappingProxyType
from typing import Any, Literal

import torch
import zoo_diffusers
import zoo_more_signals
import zoo_more_text
import zoo_transformers
from zoo_monai import MONAI
from zoo_transformers import Table

from stepzero.network import import_torchvision, load_model

EMPTY: Mapping[str, int] = MappingProxyType({})
MODELS = import_torchvision().models  # before the other libraries import it, in case its operators do not match torch
SIZES = dict.fromkeys(("inception_v3", "quantized_inception_v3"), (2, 3, 299, 299))  # of torchvision; others take 224
WIDTH = {"input_size": 16, "hidden_size": 24, "batch_first": True}
BLOCK = {"d_model": 32, "nhead": 4, "dim_feedforward": 64, "batch_first": True}
SEQUENCE, TWO = (2, 12, 16), [(2, 12, 32), (2, 10, 32)]
TORCH: dict[str, tuple[str, dict[str, Any], Any]] = {
    "RNN": ("torch.nn:RNN", WIDTH, SEQUENCE),
    "RNN relu, 2 layers": ("torch.nn:RNN", WIDTH | {"num_layers": 2, "nonlinearity": "relu"}, SEQUENCE),
    "LSTM": ("torch.nn:LSTM", WIDTH, SEQUENCE),
    "LSTM 2 layers, both ways": ("torch.nn:LSTM", WIDTH | {"num_layers": 2, "bidirectional": True, "dropout": 0.1}, SEQUENCE),
    "LSTM projected": ("torch.nn:LSTM", WIDTH | {"proj_size": 8}, SEQUENCE),
    "GRU": ("torch.nn:GRU", WIDTH, SEQUENCE),
    "GRU 2 layers, both ways": ("torch.nn:GRU", WIDTH | {"num_layers": 2, "bidirectional": True}, SEQUENCE),
    "LSTMCell": ("torch.nn:LSTMCell", {"input_size": 16, "hidden_size": 24}, (2, 16)),
    "GRUCell": ("torch.nn:GRUCell", {"input_size": 16, "hidden_size": 24}, (2, 16)),
    "RNNCell": ("torch.nn:RNNCell", {"input_size": 16, "hidden_size": 24}, (2, 16)),
    "Transformer": ("torch.nn:Transformer", BLOCK | {"num_encoder_layers": 2, "num_decoder_layers": 2}, TWO),
    "TransformerEncoderLayer": ("torch.nn:TransformerEncoderLayer", BLOCK, TWO[0]),
    "TransformerDecoderLayer": ("torch.nn:TransformerDecoderLayer", BLOCK, TWO),
    "MultiheadAttention": ("torch.nn:MultiheadAttention", {"embed_dim": 32, "num_heads": 4, "batch_first": True}, [(2, 12, 32)] * 3),
}  # fmt: skip


def joined(*tables: Table) -> Table:
    """Return one table of several, family by family."""
    families = dict.fromkeys(family for table in tables for family in table)
    return {
        family: {name: row for table in tables for name, row in table.get(family, {}).items()} for family in families
    }


TABLES: dict[str, Table] = {
    "transformers": joined(zoo_transformers.ARCHITECTURES, zoo_more_text.ARCHITECTURES, zoo_more_signals.ARCHITECTURES),
    "diffusers": zoo_diffusers.ARCHITECTURES,
}
ROWS = {
    library: {name: row for group in table.values() for name, row in group.items()} for library, table in TABLES.items()
}


def names(nodes: Mapping[str, int] = EMPTY) -> Iterator[str]:
    """Yield every model, `library:name`; timm in rounds of one model of each module, small ones first.

    Args:
        nodes: How many ops each model has, where that is known: the cost of a round is what makes it come late.
    """
    for library, rows in ROWS.items():
        yield from (f"{library}:{name}" for name in rows)
    yield from (f"torch:{name}" for name in TORCH)
    yield from (f"monai:{name}" for name in MONAI)
    yield from (f"torchvision:{name}" for name in MODELS.list_models())
    yield from _timm_in_rounds(nodes)


def _timm_in_rounds(nodes: Mapping[str, int]) -> Iterator[str]:
    import timm

    def cost(name: str) -> tuple[int, str]:
        return nodes.get(f"timm:{name}", 1000) * _pixels(name), name

    modules = [sorted(timm.list_models(module=module), key=cost) for module in timm.list_modules()]
    rounds = (name for place in zip_longest(*modules) for name in place if name is not None)
    yield from (f"timm:{name}" for name in dict.fromkeys([*rounds, *timm.list_models()]))


def _pixels(name: str) -> int:
    """Return the input size that a timm model asks for, in pixels."""
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(name, allow_unregistered=True)
    return math.prod(config.input_size[1:]) if config is not None else 224**2


def family(name: str) -> str:
    """Return the group that a table shows a model in: `timm/resnet`, `transformers/decoder`, `torchvision/detection`."""
    library, _, short = name.partition(":")
    if library in TABLES:
        return f"{library}/{next(key for key, group in TABLES[library].items() if short in group)}"
    if library == "timm":
        from timm.models import model_entrypoint

        return f"timm/{model_entrypoint(short).__module__.rpartition('.')[2]}"
    return f"torchvision/{_kind(short)}" if library == "torchvision" else library


def _kind(short: str) -> str:
    home = MODELS.get_model_builder(short).__module__.removeprefix("torchvision.models.").split(".")[0]
    return home if home in ("detection", "segmentation", "video", "optical_flow", "quantization") else "classification"


def example(name: str, model: torch.nn.Module) -> Any:
    """Return inputs of the size that a model asks for."""
    library, _, short = name.partition(":")
    if library in TABLES:
        return ROWS[library][short][1]
    if library == "torch":
        return TORCH[short][2]
    if library == "monai":
        return MONAI[short][1]
    if library == "timm":
        return (2, *model.pretrained_cfg.get("input_size", (3, 224, 224)))  # type: ignore[operator]
    kind = _kind(short)
    if kind == "detection":
        return {"args": ([torch.zeros(3, 224, 224), torch.zeros(3, 224, 224)],)}
    if kind == "video":
        return (2, 3, 16, 224, 224)
    if kind == "optical_flow":
        return [(2, 3, 128, 128), (2, 3, 128, 128)]
    return SIZES.get(short, (2, 3, 224, 224))


def training(name: str) -> bool:
    """Say whether a model is read in training mode: detection in training asks for boxes."""
    return not name.startswith("torchvision:") or family(name) != "torchvision/detection"


def build(name: str, *, record: bool = False, device: Literal["meta", "cpu"] = "meta") -> torch.nn.Module:
    """Return a model without memory for its parameters, with its own init recorded if asked; on "cpu", as its author draws it."""
    library, _, short = name.partition(":")
    if library in TABLES:
        settings = ROWS[library][short][0]
        return load_model(f"zoo_{library}:make", {"name": short, "settings": settings}, record=record, device=device)
    if library == "torch":
        return load_model(*TORCH[short][:2], record=record, device=device)
    if library == "monai":
        return load_model(f"monai.networks.nets:{short}", MONAI[short][0], record=record, device=device)
    return load_model(name, record=record, device=device)
