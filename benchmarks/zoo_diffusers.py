"""Diffusers' networks as small configurations of the real classes, with inputs that each accepts."""

from __future__ import annotations

from typing import Any

import torch
from zoo_transformers import Table, named

STEP = torch.tensor([3, 5])
UNET = {"sample_size": 16, "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
CROSS = UNET | {"attention_head_dim": 4, "cross_attention_dim": 16, "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
                "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D")}  # fmt: skip
HEADS = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2}

ARCHITECTURES: Table = {
    "UNet": {
        "UNet2DModel": (UNET | {"attention_head_dim": 4, "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
                                "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}, named(sample=(2, 3, 16, 16), timestep=STEP)),
        "UNet2DConditionModel": (CROSS, named(sample=(2, 4, 16, 16), timestep=STEP, encoder_hidden_states=(2, 5, 16))),
        "UNet1DModel": ({"sample_size": 16, "in_channels": 14, "out_channels": 14, "block_out_channels": (8, 8, 16, 16), "time_embedding_type": "positional",
                         "use_timestep_embedding": True, "flip_sin_to_cos": False, "freq_shift": 1.0, "act_fn": "swish", "layers_per_block": 1,
                         "down_block_types": ("DownResnetBlock1D",) * 4, "up_block_types": ("UpResnetBlock1D",) * 3,
                         "mid_block_type": "MidResTemporalBlock1D", "out_block_type": "OutConv1DBlock"}, named(sample=(2, 14, 16), timestep=STEP)),
        "UNet3DConditionModel": (UNET | {"attention_head_dim": 4, "cross_attention_dim": 16, "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
                                         "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D")},
                                 named(sample=(2, 4, 2, 16, 16), timestep=STEP, encoder_hidden_states=(2, 5, 16))),
        "UNetMotionModel": (UNET | {"num_attention_heads": 2, "cross_attention_dim": 16, "motion_num_attention_heads": 2, "layers_per_block": 1,
                                    "down_block_types": ("CrossAttnDownBlockMotion", "DownBlockMotion"),
                                    "up_block_types": ("UpBlockMotion", "CrossAttnUpBlockMotion")},
                            named(sample=(2, 4, 2, 16, 16), timestep=torch.tensor(3), encoder_hidden_states=(4, 5, 16))),
        "UNetSpatioTemporalConditionModel": ({"sample_size": 16, "block_out_channels": (32, 64), "layers_per_block": 1, "num_attention_heads": (2, 4),
                                              "cross_attention_dim": 16, "in_channels": 8, "num_frames": 2, "addition_time_embed_dim": 32,
                                              "projection_class_embeddings_input_dim": 96,
                                              "down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
                                              "up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal")},
                                             named(sample=(2, 2, 8, 16, 16), timestep=STEP, encoder_hidden_states=(2, 5, 16), added_time_ids=(2, 3))),
        "ControlNetModel": ({key: CROSS[key] for key in CROSS if key not in ("sample_size", "up_block_types")} | {"conditioning_embedding_out_channels": (8, 16)},
                            named(sample=(2, 4, 16, 16), timestep=STEP, encoder_hidden_states=(2, 5, 16), controlnet_cond=(2, 3, 32, 32))),
    },
    "autoencoder": {
        "AutoencoderKL": ({"block_out_channels": (8, 16), "norm_num_groups": 4, "down_block_types": ("DownEncoderBlock2D",) * 2,
                           "up_block_types": ("UpDecoderBlock2D",) * 2}, named(sample=(2, 3, 32, 32))),
        "AutoencoderTiny": ({"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8), "num_encoder_blocks": (1, 1),
                             "num_decoder_blocks": (1, 1)}, named(sample=(2, 3, 32, 32))),
        "VQModel": ({"block_out_channels": (8, 16), "norm_num_groups": 4, "latent_channels": 3, "num_vq_embeddings": 16,
                     "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}, named(sample=(2, 3, 32, 32))),
        "AutoencoderKLTemporalDecoder": ({"block_out_channels": (32, 32), "down_block_types": ("DownEncoderBlock2D",) * 2},
                                         named(sample=(2, 3, 16, 16))),
        "AutoencoderDC": ({"in_channels": 3, "latent_channels": 4, "attention_head_dim": 2, "encoder_block_types": ("ResBlock", "EfficientViTBlock"),
                           "decoder_block_types": ("ResBlock", "EfficientViTBlock"), "encoder_block_out_channels": (8, 8),
                           "decoder_block_out_channels": (8, 8), "encoder_layers_per_block": (1, 1), "decoder_layers_per_block": (1, 1),
                           "encoder_qkv_multiscales": ((), (5,)), "decoder_qkv_multiscales": ((), (5,)), "downsample_block_type": "conv",
                           "upsample_block_type": "interpolate"}, named(sample=(2, 3, 32, 32))),
        "AutoencoderKLCogVideoX": ({"block_out_channels": (8, 8, 8, 8), "norm_num_groups": 4, "layers_per_block": 1,
                                    "down_block_types": ("CogVideoXDownBlock3D",) * 4, "up_block_types": ("CogVideoXUpBlock3D",) * 4,
                                    "latent_channels": 4, "sample_height": 16, "sample_width": 16, "temporal_compression_ratio": 4},
                                   named(sample=(1, 3, 9, 16, 16))),
        "AutoencoderOobleck": ({"encoder_hidden_size": 8, "downsampling_ratios": [2, 4], "channel_multiples": [1, 2], "decoder_channels": 8,
                                "decoder_input_channels": 4}, named(sample=(2, 2, 64))),
        "AutoencoderKLWan": ({"base_dim": 4, "z_dim": 4, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1, "temperal_downsample": [False, True, True],
                              "latents_mean": [0.0] * 4, "latents_std": [1.0] * 4}, named(sample=(1, 3, 5, 16, 16))),
    },
    "transformer": {
        "DiTTransformer2DModel": (HEADS | {"sample_size": 8}, named(hidden_states=(2, 4, 8, 8), timestep=STEP, class_labels=torch.tensor([1, 2]))),
        "Transformer2DModel": (HEADS | {"in_channels": 16, "norm_num_groups": 4}, named(hidden_states=(2, 16, 8, 8))),
        "PixArtTransformer2DModel": (HEADS | {"sample_size": 8, "cross_attention_dim": 16, "caption_channels": 8, "out_channels": 8},
                                     named(hidden_states=(2, 4, 8, 8), timestep=STEP, encoder_hidden_states=(2, 5, 8),
                                           added_cond_kwargs={"aspect_ratio": None, "resolution": None})),
        "SD3Transformer2DModel": (HEADS | {"sample_size": 8, "caption_projection_dim": 16, "joint_attention_dim": 16, "pooled_projection_dim": 8,
                                           "in_channels": 4, "out_channels": 4, "pos_embed_max_size": 16},
                                  named(hidden_states=(2, 4, 8, 8), encoder_hidden_states=(2, 5, 16), pooled_projections=(2, 8), timestep=STEP)),
        "FluxTransformer2DModel": (HEADS | {"in_channels": 4, "attention_head_dim": 16, "num_single_layers": 2, "joint_attention_dim": 16, "pooled_projection_dim": 8,
                                            "axes_dims_rope": (4, 4, 8)},
                                   named(hidden_states=(2, 16, 4), encoder_hidden_states=(2, 5, 16), pooled_projections=(2, 8), timestep=(2,),
                                         img_ids=(16, 3), txt_ids=(5, 3))),
        "SanaTransformer2DModel": (HEADS | {"in_channels": 4, "out_channels": 4, "sample_size": 8, "num_cross_attention_heads": 2, "cross_attention_head_dim": 8,
                                            "cross_attention_dim": 16, "caption_channels": 8, "patch_size": 1},
                                   named(hidden_states=(2, 4, 8, 8), encoder_hidden_states=(2, 5, 8), timestep=STEP)),
        "AuraFlowTransformer2DModel": ({"sample_size": 8, "num_attention_heads": 2, "attention_head_dim": 8, "num_mmdit_layers": 1, "num_single_dit_layers": 1,
                                        "joint_attention_dim": 16, "caption_projection_dim": 16, "pos_embed_max_size": 16},
                                       named(hidden_states=(2, 4, 8, 8), encoder_hidden_states=(2, 5, 16), timestep=(2,))),
        "CogVideoXTransformer3DModel": (HEADS | {"time_embed_dim": 8, "text_embed_dim": 8, "in_channels": 4, "out_channels": 4, "sample_width": 8,
                                                 "sample_height": 8, "sample_frames": 5, "max_text_seq_length": 5},
                                        named(hidden_states=(2, 2, 4, 8, 8), encoder_hidden_states=(2, 5, 8), timestep=STEP)),
        "LTXVideoTransformer3DModel": (HEADS | {"in_channels": 4, "out_channels": 4, "cross_attention_dim": 16, "caption_channels": 8},
                                       named(hidden_states=(2, 32, 4), encoder_hidden_states=(2, 5, 8), timestep=STEP,
                                             encoder_attention_mask=torch.ones(2, 5, dtype=torch.bool), num_frames=2, height=4, width=4)),
        "WanTransformer3DModel": (HEADS | {"in_channels": 4, "out_channels": 4, "text_dim": 8, "freq_dim": 16, "ffn_dim": 32, "attention_head_dim": 12,
                                           "cross_attn_norm": True}, named(hidden_states=(2, 4, 2, 8, 8), timestep=STEP, encoder_hidden_states=(2, 5, 8))),
        "Lumina2Transformer2DModel": ({"sample_size": 8, "in_channels": 4, "hidden_size": 24, "num_layers": 1, "num_refiner_layers": 1, "num_attention_heads": 2,
                                       "num_kv_heads": 1, "multiple_of": 2, "cap_feat_dim": 8, "axes_dim_rope": (4, 4, 4), "axes_lens": (32, 32, 32)},
                                      named(hidden_states=(2, 4, 8, 8), timestep=(2,), encoder_hidden_states=(2, 5, 8),
                                            encoder_attention_mask=torch.ones(2, 5, dtype=torch.bool))),
        "LatteTransformer3DModel": (HEADS | {"sample_size": 8, "cross_attention_dim": 16, "caption_channels": 8, "in_channels": 4, "out_channels": 8, "patch_size": 2,
                                             "norm_type": "ada_norm_single", "video_length": 1},
                                    named(hidden_states=(2, 4, 1, 8, 8), encoder_hidden_states=(2, 5, 8), timestep=STEP)),
        "PriorTransformer": (HEADS | {"embedding_dim": 8, "num_embeddings": 5, "additional_embeddings": 4},
                             named(hidden_states=(2, 8), timestep=STEP, proj_embedding=(2, 8), encoder_hidden_states=(2, 5, 8))),
        "CogView4Transformer2DModel": (HEADS | {"in_channels": 4, "out_channels": 4, "text_embed_dim": 8, "time_embed_dim": 8, "condition_dim": 4},
                                       named(hidden_states=(2, 4, 8, 8), encoder_hidden_states=(2, 5, 8), timestep=STEP,
                                             original_size=(2, 2), target_size=(2, 2), crop_coords=(2, 2))),
        "MochiTransformer3DModel": (HEADS | {"pooled_projection_dim": 8, "in_channels": 4, "text_embed_dim": 8, "time_embed_dim": 8, "max_sequence_length": 5},
                                    named(hidden_states=(2, 4, 2, 8, 8), encoder_hidden_states=(2, 5, 8), timestep=STEP,
                                          encoder_attention_mask=torch.ones(2, 5, dtype=torch.bool))),
        "TransformerTemporalModel": (HEADS | {"in_channels": 16, "norm_num_groups": 4}, named(hidden_states=(4, 16, 8, 8), num_frames=2)),
    },
}  # fmt: skip


def make(name: str, settings: dict[str, Any]) -> torch.nn.Module:
    """Return a network of diffusers by its class."""
    import diffusers

    model: torch.nn.Module = getattr(diffusers, name)(**settings)
    return model
