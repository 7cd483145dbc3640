"""Nets of tokens at a size that one core measures in seconds: vision transformers, token mixers, language and speech models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from nets import Case, library
from torch import nn

SMALL = {"img_size": 64, "patch_size": 8}
LAYERS = {
    "hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 256, "vocab_size": 99,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
SIDES = {
    f"{side}_{what}": n
    for side in ("encoder", "decoder")
    for what, n in (("layers", 2), ("attention_heads", 4), ("ffn_dim", 256))
}


def ids(*shape: int) -> torch.Tensor:
    """Return token ids that are never a special one."""
    return torch.randint(5, 99, shape, generator=torch.Generator().manual_seed(0))


def image(name: str, side: int = 64, **options: object) -> Case:
    """Return one of timm's models as a case."""
    return Case(name, library(f"timm:{name}", **options), (4, 3, side, side), None, True)


def language(name: str, settings: dict[str, Any], **inputs: Any) -> Case:
    """Return one of transformers' models as a case."""
    return Case(name, configured(name, settings), {"kwargs": inputs}, None, True)


def configured(name: str, settings: dict[str, Any]) -> Callable[[], nn.Module]:
    """Return a factory of a class of transformers with this configuration."""

    def make() -> nn.Module:
        from stepzero.network import import_torchvision

        import_torchvision()  # before transformers does, in case its operators do not match torch
        import transformers

        kind = getattr(transformers, name)
        model: nn.Module = kind(kind.config_class(**settings))
        return model

    return make


TOKENS = (
    image("vit_tiny_patch16_224", **SMALL, depth=4),
    image("deit3_small_patch16_224", **SMALL, depth=4, embed_dim=192, num_heads=3),
    image("cait_xxs24_224", **SMALL, depth=4),
    image("beit_base_patch16_224", **SMALL, depth=3, embed_dim=192, num_heads=3),
    image("mixer_s32_224", 224),
    image("swin_tiny_patch4_window7_224", 112, img_size=112, embed_dim=48),
    image("mobilevit_xxs"),
    image("xcit_nano_12_p16_224", 96, depth=3),
    image("pvt_v2_b0", 96),
    image("coat_lite_tiny", 96, img_size=96),
    image("maxvit_tiny_rw_224", img_size=64),
    image("poolformer_s12", 96),
    image("convformer_s18", 96),
    language(
        "GPT2LMHeadModel", {"n_embd": 128, "n_layer": 4, "n_head": 4, "vocab_size": 99, "n_positions": 64, "bos_token_id": 1, "eos_token_id": 2},
        input_ids=ids(4, 48)
    ),
    language("LlamaForCausalLM", LAYERS | {"num_key_value_heads": 2}, input_ids=ids(4, 48)),
    language("BertModel", LAYERS, input_ids=ids(4, 48)),
    language(
        "T5Model", {"d_model": 128, "d_kv": 32, "d_ff": 256, "num_layers": 3, "num_heads": 4, "vocab_size": 99},
        input_ids=ids(4, 32), decoder_input_ids=ids(4, 32),
    ),
    language(
        "WhisperModel", SIDES | {
            "d_model": 128, "vocab_size": 99, "num_mel_bins": 16, "max_source_positions": 32, "max_target_positions": 32,
            "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2,
        },
        input_features=torch.randn(4, 16, 64, generator=torch.Generator().manual_seed(1)), decoder_input_ids=ids(4, 24),
    ),
    language(
        "Mamba2Model", {"hidden_size": 128, "num_hidden_layers": 2, "vocab_size": 99, "state_size": 16, "num_heads": 8,
                        "head_dim": 32, "n_groups": 2, "chunk_size": 8}, input_ids=ids(4, 32),
    ),
)  # fmt: skip
