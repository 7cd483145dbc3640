"""A Llama of 7 billion parameters, on whatever device is current: `benchmarks/llama.py:llama_7b`."""

from __future__ import annotations

from torch import nn

from stepzero.network._torchvision import import_torchvision


def llama_7b(layers: int = 32) -> nn.Module:
    """Build the model with the sizes of Touvron et al. 2023 (arXiv:2302.13971, table 2)."""
    import_torchvision()  # transformers wants it; its operators may be missing beside a CPU build of torch
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(num_hidden_layers=layers, use_cache=False))
