"""Small instances of many architectures, with example inputs: what the fidelity tests run for real."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

Entry = tuple[Callable[[], nn.Module], Any]  # factory, inputs

SMALL: dict[str, Entry] = {}


def declare_torchvision_ops() -> None:
    """Declare the operators that torchvision looks for on import, where its compiled library does not match torch."""
    from stepzero.network import import_torchvision

    import_torchvision()


def torchvision_model(name: str, **arguments: Any) -> nn.Module:
    """Return a torchvision model by name, without weights."""
    declare_torchvision_ops()
    import torchvision

    return torchvision.models.get_model(name, weights=None, **arguments)


def timm_model(name: str, **arguments: Any) -> nn.Module:
    """Return a timm model with five classes."""
    declare_torchvision_ops()
    import timm

    return timm.create_model(name, pretrained=False, num_classes=5, **arguments)


def monai_model(name: str, **arguments: Any) -> nn.Module:
    """Return one of MONAI's networks."""
    from monai.networks import nets

    return getattr(nets, name)(**arguments)


def transformers_model(name: str, **arguments: Any) -> nn.Module:
    """Return a transformers model from a configuration of these sizes."""
    declare_torchvision_ops()
    import transformers

    config = getattr(transformers, name.replace("Model", "Config").replace("ForCausalLM", "Config"))
    return getattr(transformers, name)(config(**arguments))


def diffusers_model(name: str, **arguments: Any) -> nn.Module:
    """Return a diffusers model."""
    declare_torchvision_ops()
    import diffusers

    return getattr(diffusers, name)(**arguments)


BUILDERS = {
    "torchvision": torchvision_model,
    "timm": timm_model,
    "monai": monai_model,
    "transformers": transformers_model,
    "diffusers": diffusers_model,
}


def small(spec: str, inputs: Any, **arguments: Any) -> None:
    """Add one entry to the table; a second one of the same name gets a number."""
    library, _, name = spec.partition(":")
    label = spec if spec not in SMALL else f"{spec}#2"
    SMALL[label] = (partial(BUILDERS[library], name, **arguments), inputs)


def ids(*shape: int, high: int = 50) -> torch.Tensor:
    """Return token ids that are never the padding id."""
    return torch.randint(2, high, shape, generator=torch.Generator().manual_seed(0))


image = (2, 3, 64, 64)
for name in (
    "alexnet",
    "vgg11",
    "vgg11_bn",
    "resnet18",
    "resnext50_32x4d",
    "squeezenet1_1",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "shufflenet_v2_x0_5",
    "mnasnet0_5",
    "efficientnet_b0",
    "regnet_y_400mf",
    "densenet121",
    "convnext_tiny",
    "swin_v2_t",
):
    small(f"torchvision:{name}", image, num_classes=5)  # fmt: skip
small("torchvision:googlenet", (2, 3, 96, 96), num_classes=5, init_weights=False)
small("torchvision:vit_b_16", (2, 3, 32, 32), num_classes=5, image_size=32)
small("torchvision:r3d_18", (2, 3, 4, 32, 32), num_classes=5)
small("torchvision:lraspp_mobilenet_v3_large", image, num_classes=5, weights_backbone=None)

for name in ("resnetv2_50", "nf_resnet26", "nfnet_l0", "ghostnet_050", "hardcorenas_a", "repvgg_a0", "regnetz_005", "dla46_c", "skresnet18",
             "res2net50_14w_8s", "seresnext26t_32x4d", "ecaresnet26t", "lambda_resnet26t", "convnextv2_atto", "mobilenetv4_conv_small",
             "rexnet_100", "hgnetv2_b0", "fastvit_t8", "repvit_m0_9", "starnet_s1", "xcit_nano_12_p16_224", "efficientformer_l1"):  # fmt: skip
    size = 224 if "224" in name or "former" in name else 64
    small(f"timm:{name}", (2, 3, size, size))
for name in ("vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "beit_base_patch16_224", "mixer_s32_224", "gmlp_ti16_224",
             "resmlp_12_224", "cait_xxs24_224", "eva02_tiny_patch14_224"):  # fmt: skip
    size = 56 if "patch14" in name else 64
    small(
        f"timm:{name}", (2, 3, size, size), img_size=size, **({} if "mixer" in name or "mlp" in name else {"depth": 3})
    )
for name in ("swin_tiny_patch4_window7_224", "swinv2_cr_tiny_ns_224", "maxvit_rmlp_pico_rw_256", "coatnet_nano_rw_224", "mvitv2_tiny",
             "levit_128s", "edgenext_xx_small", "poolformerv2_s12", "sequencer2d_s", "volo_d1_224"):  # fmt: skip
    size = 256 if "256" in name else 64 if name in ("edgenext_xx_small", "poolformerv2_s12") else 224
    small(f"timm:{name}", (2, 3, size, size))

small(
    "monai:UNet",
    (2, 1, 16, 16, 16),
    spatial_dims=3,
    in_channels=1,
    out_channels=2,
    channels=(4, 8, 16),
    strides=(2, 2),
    num_res_units=2,
)
small(
    "monai:UNet",
    (2, 1, 32, 32),
    spatial_dims=2,
    in_channels=1,
    out_channels=2,
    channels=(4, 8),
    strides=(2,),
    norm=None,
)
small("monai:BasicUNet", (1, 1, 32, 32, 32), spatial_dims=3, features=(4, 4, 8, 8, 16, 4))
small("monai:DynUNet", (2, 1, 32, 32), spatial_dims=2, in_channels=1, out_channels=2, kernel_size=[3, 3, 3], strides=[1, 2, 2],
      upsample_kernel_size=[2, 2], filters=[4, 8, 16])  # fmt: skip
small("monai:SegResNet", (1, 1, 16, 16, 16), spatial_dims=3, init_filters=8, blocks_down=(1, 1, 1), blocks_up=(1, 1))
small(
    "monai:AttentionUnet",
    (2, 1, 32, 32),
    spatial_dims=2,
    in_channels=1,
    out_channels=2,
    channels=(4, 8, 16),
    strides=(2, 2),
)
small(
    "monai:UNETR",
    (1, 1, 32, 32, 32),
    in_channels=1,
    out_channels=2,
    img_size=32,
    feature_size=4,
    hidden_size=24,
    mlp_dim=48,
    num_heads=4,
)
small("monai:SwinUNETR", (1, 1, 64, 64), in_channels=1, out_channels=2, feature_size=12, spatial_dims=2)
small("monai:VNet", (1, 1, 32, 32, 32))
small("monai:DenseNet121", (2, 1, 64, 64), spatial_dims=2, in_channels=1, out_channels=2)
small("monai:VQVAE", (2, 1, 16, 16), spatial_dims=2, in_channels=1, out_channels=1, channels=(8, 8), num_res_channels=(8, 8),
      num_embeddings=8, embedding_dim=4, num_res_layers=1, downsample_parameters=((2, 4, 1, 1),) * 2,
      upsample_parameters=((2, 4, 1, 1, 0),) * 2)  # fmt: skip
small("monai:AutoencoderKL", (2, 1, 16, 16), spatial_dims=2, in_channels=1, out_channels=1, channels=(8, 8), num_res_blocks=(1, 1),
      latent_channels=2, norm_num_groups=4, attention_levels=(False, True))  # fmt: skip

tiny = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 50}
text = {"kwargs": {"input_ids": ids(2, 7), "attention_mask": torch.ones(2, 7, dtype=torch.int64)}}
for name in ("LlamaForCausalLM", "MistralModel", "Qwen2Model", "Gemma2Model", "OlmoModel"):
    small(f"transformers:{name}", text, num_key_value_heads=2, head_dim=8, pad_token_id=0, **tiny)
for name in ("BertModel", "RobertaModel", "ElectraModel", "DebertaV2Model", "GPTNeoXModel"):
    small(f"transformers:{name}", text, max_position_embeddings=32, **tiny)
small("transformers:GPT2Model", text, n_embd=32, n_layer=2, n_head=4, vocab_size=50, n_positions=32)
small("transformers:OPTModel", text, hidden_size=32, word_embed_proj_dim=32, num_hidden_layers=2, num_attention_heads=4, ffn_dim=48,
      vocab_size=50, max_position_embeddings=32)  # fmt: skip
small("transformers:BloomModel", text, hidden_size=32, n_layer=2, n_head=4, vocab_size=50)
small("transformers:DistilBertModel", text, dim=32, n_layers=2, n_heads=4, hidden_dim=48, vocab_size=50)
small("transformers:MixtralModel", text, num_key_value_heads=2, num_local_experts=4, head_dim=8, **tiny)
small(
    "transformers:MambaModel",
    {"kwargs": {"input_ids": ids(2, 7)}},
    hidden_size=32,
    num_hidden_layers=2,
    vocab_size=50,
    state_size=4,
)
small("transformers:T5Model", {"kwargs": {"input_ids": ids(2, 7), "decoder_input_ids": ids(2, 5)}}, d_model=32, d_kv=8, d_ff=48, num_layers=2,
      num_heads=4, vocab_size=50)  # fmt: skip
small("transformers:ViTModel", {"kwargs": {"pixel_values": torch.ones(2, 3, 32, 32)}}, image_size=32, patch_size=8,
      **{key: tiny[key] for key in tiny if key != "vocab_size"})  # fmt: skip
small("transformers:Wav2Vec2Model", {"args": (torch.linspace(-1, 1, 4000).repeat(2, 1),)}, conv_dim=(16,) * 7, num_feat_extract_layers=7,
      mask_time_prob=0.0, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, layerdrop=0.0, **tiny)  # fmt: skip

small("diffusers:UNet2DModel", {"args": (torch.ones(2, 3, 16, 16), torch.tensor(3))}, sample_size=16, block_out_channels=(8, 16),
      layers_per_block=1, norm_num_groups=4, attention_head_dim=4, down_block_types=("DownBlock2D", "AttnDownBlock2D"),
      up_block_types=("AttnUpBlock2D", "UpBlock2D"))  # fmt: skip
small("diffusers:UNet2DConditionModel", {"args": (torch.ones(2, 4, 16, 16), torch.tensor(3), torch.ones(2, 5, 16))}, sample_size=16,
      block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, attention_head_dim=4, cross_attention_dim=16,
      down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"))  # fmt: skip
small("diffusers:DiTTransformer2DModel", {"kwargs": {"hidden_states": torch.ones(2, 4, 8, 8), "timestep": torch.tensor([3, 5]),
      "class_labels": torch.tensor([1, 2])}}, num_attention_heads=2, attention_head_dim=8, num_layers=2, sample_size=8)  # fmt: skip
small("diffusers:AutoencoderTiny", (1, 3, 32, 32), encoder_block_out_channels=(8, 8), decoder_block_out_channels=(8, 8),
      num_encoder_blocks=(1, 1), num_decoder_blocks=(1, 1))  # fmt: skip
