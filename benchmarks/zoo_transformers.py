"""Transformers architectures as small configurations of the real classes, with inputs that each accepts."""

from __future__ import annotations

from typing import Any

import torch

Table = dict[str, dict[str, tuple[dict[str, Any], Any]]]  # family → class → settings, inputs


def ids(*shape: int, high: int = 50) -> torch.Tensor:
    """Return token ids that are never a special one."""
    return torch.randint(5, high, shape, generator=torch.Generator().manual_seed(0))


def named(**arguments: Any) -> dict[str, Any]:
    """Return a call with these keyword arguments; a shape stands for noise, or for ones where it has less than three axes."""
    return {"kwargs": {k: _numbers(v) if isinstance(v, tuple) else v for k, v in arguments.items()}}


def _numbers(shape: tuple[int, ...]) -> torch.Tensor:
    """Return images, waves and states as noise; masks, times and places as ones."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)) if len(shape) > 2 else torch.ones(shape)


def same(names: str, settings: dict[str, Any], inputs: Any) -> dict[str, tuple[dict[str, Any], Any]]:
    """Return an entry for each of the names, all with the same settings."""
    return dict.fromkeys(names.split(), (settings, inputs))


TEXT = named(input_ids=ids(2, 8), attention_mask=torch.ones(2, 8, dtype=torch.int64))
IDS = named(input_ids=ids(2, 8))
PAIR = named(input_ids=ids(2, 8), decoder_input_ids=ids(2, 6))
IMAGE = named(pixel_values=(2, 3, 32, 32))
PHOTO = named(pixel_values=(2, 3, 64, 64))
WAVE = named(input_values=torch.linspace(-1, 1, 4000).repeat(2, 1))

LAYERS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
TINY = LAYERS | {"vocab_size": 99, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
BERT = TINY | {"max_position_embeddings": 64}
LLAMA = TINY | {"num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64}
GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 99, "n_positions": 64, "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
BART = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64, "vocab_size": 99, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
        "decoder_start_token_id": 2}  # fmt: skip
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "vocab_size": 99}
MAMBA = {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 99, "state_size": 4}
SPEECH = LAYERS | {"conv_dim": (16,) * 7, "num_feat_extract_layers": 7, "mask_time_prob": 0.0, "num_conv_pos_embeddings": 16,
                   "num_conv_pos_embedding_groups": 4, "layerdrop": 0.0, "vocab_size": 32}  # fmt: skip
VIT = LAYERS | {"image_size": 32, "patch_size": 8}
STAGES = {"depths": [2, 2], "embed_dim": 16, "num_heads": [2, 4], "window_size": 4, "image_size": 64}
TOWER = LAYERS | {"image_size": 32, "patch_size": 8, "projection_dim": 16}
WORDS = BERT | {"projection_dim": 16}
TOWERS = {"vision_config": TOWER, "text_config": WORDS, "projection_dim": 16}
SERIES = {"prediction_length": 4, "context_length": 12, "lags_sequence": [1, 2], "num_time_features": 1, "d_model": 16, "encoder_layers": 1,
          "decoder_layers": 1, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}  # fmt: skip
PAST = {"past_values": (2, 14), "past_time_features": (2, 14, 1), "past_observed_mask": (2, 14), "future_values": (2, 4),
        "future_time_features": (2, 4, 1)}  # fmt: skip


def images_in_text(token: int, count: int) -> torch.Tensor:
    """Return ids of `count` image tokens and some words."""
    return torch.cat([torch.full((1, count), token), ids(1, 6)], 1)


ARCHITECTURES: Table = {
    "encoder": {
        **same("BertModel BertForMaskedLM RobertaModel ElectraModel XLMRobertaModel CamembertModel MPNetModel RoFormerModel ErnieModel "
               "NystromformerModel MegatronBertModel RemBertModel LayoutLMModel DebertaModel DebertaV2Model EsmModel", BERT, TEXT),
        "SqueezeBertModel": (BERT | {"embedding_size": 32}, TEXT),
        **same("AlbertModel ConvBertModel", BERT | {"embedding_size": 32}, TEXT),
        "FNetModel": (BERT, IDS),
        "IBertModel": (BERT, TEXT),
        "ModernBertModel": (TINY | {"max_position_embeddings": 64, "cls_token_id": 1, "sep_token_id": 2, "local_attention": 4}, TEXT),
        "LongformerModel": (BERT | {"attention_window": 4}, TEXT),
        "BigBirdModel": (BERT | {"attention_type": "original_full"}, TEXT),
        "DistilBertModel": ({"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "vocab_size": 99}, TEXT),
        "XLNetModel": ({"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64, "vocab_size": 99}, IDS),
        "FunnelModel": ({"d_model": 32, "block_sizes": [1, 1], "n_head": 4, "d_head": 8, "d_inner": 64, "vocab_size": 99}, TEXT),
        "CanineModel": (LAYERS | {"num_hash_buckets": 64, "num_hash_functions": 4, "max_position_embeddings": 64, "local_transformer_stride": 16},
                        named(input_ids=ids(2, 32))),
        "MobileBertModel": (BERT | {"embedding_size": 32, "intra_bottleneck_size": 32}, TEXT),
        "ReformerModel": ({"attn_layers": ["local", "lsh"], "hidden_size": 32, "num_attention_heads": 2, "attention_head_size": 16, "feed_forward_size": 64,
                           "axial_pos_embds_dim": (16, 16), "axial_pos_shape": (8, 8), "vocab_size": 99, "local_attn_chunk_length": 4,
                           "lsh_attn_chunk_length": 4, "num_buckets": 4, "is_decoder": False}, named(input_ids=ids(2, 64))),
        "PerceiverModel": ({"num_latents": 8, "d_latents": 32, "d_model": 16, "num_blocks": 1, "num_self_attends_per_block": 1,
                            "num_self_attention_heads": 4, "num_cross_attention_heads": 4}, named(inputs=(2, 10, 16))),
    },
    "decoder": {
        **same("LlamaForCausalLM LlamaModel MistralModel Qwen2Model Qwen3Model GemmaModel Gemma2Model Gemma3TextModel OlmoModel Olmo2Model PhiModel Phi3Model "
               "StableLmModel Starcoder2Model CohereModel GraniteModel GlmModel HeliumModel DiffLlamaModel SmolLM3Model Cohere2Model NemotronModel", LLAMA, TEXT),
        **same("GPTNeoXModel PersimmonModel BioGptModel", BERT, TEXT),
        **same("GPT2LMHeadModel OpenAIGPTModel GPTBigCodeModel CodeGenModel GPTJModel", GPT | {"rotary_dim": 4}, IDS),
        "GPTNeoModel": ({"hidden_size": 32, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], "vocab_size": 99,
                         "max_position_embeddings": 64, "window_size": 4}, IDS),
        "OPTModel": ({"hidden_size": 32, "word_embed_proj_dim": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 64, "vocab_size": 99,
                      "max_position_embeddings": 64}, TEXT),
        "BloomModel": ({"hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": 99}, TEXT),
        "FalconModel": (TINY, TEXT),
        "MptModel": ({"d_model": 32, "n_heads": 4, "n_layers": 2, "vocab_size": 99, "max_seq_len": 64}, TEXT),
        "CTRLModel": ({"n_embd": 32, "n_layer": 2, "n_head": 4, "dff": 64, "vocab_size": 99, "n_positions": 64}, IDS),
        "XGLMModel": ({"d_model": 32, "num_layers": 2, "attention_heads": 4, "ffn_dim": 64, "vocab_size": 99, "max_position_embeddings": 64}, TEXT),
    },
    "encoder-decoder": {
        **same("T5Model MT5Model UMT5Model LongT5Model", T5, PAIR),
        **same("BartModel MBartModel PegasusModel MarianModel BlenderbotModel BlenderbotSmallModel M2M100Model PLBartModel", BART, PAIR),
        "LEDModel": (BART | {"attention_window": 4, "max_encoder_position_embeddings": 64, "max_decoder_position_embeddings": 64}, PAIR),
        "ProphetNetModel": ({"hidden_size": 32, "num_encoder_layers": 2, "num_decoder_layers": 2, "num_encoder_attention_heads": 4,
                             "num_decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "vocab_size": 99,
                             "max_position_embeddings": 64}, PAIR),
        "FSMTModel": (BART | {"langs": ["en", "de"], "src_vocab_size": 99, "tgt_vocab_size": 99}, PAIR),
    },
    "mixture of experts": {
        **same("MixtralModel GraniteMoeModel PhimoeModel GptOssModel", LLAMA | {"num_local_experts": 4, "num_experts_per_tok": 2}, TEXT),
        **same("Qwen2MoeModel Qwen3MoeModel OlmoeModel", LLAMA | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
                                                                 "shared_expert_intermediate_size": 32}, TEXT),
        "DeepseekV3Model": (LLAMA | {"n_routed_experts": 4, "n_group": 2, "topk_group": 1, "num_experts_per_tok": 2, "first_k_dense_replace": 1,
                                     "moe_intermediate_size": 32, "kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8,
                                     "v_head_dim": 8, "num_key_value_heads": 4, "head_dim": 4}, TEXT),
        "JetMoeModel": (LLAMA | {"num_local_experts": 4, "kv_channels": 8}, TEXT),
        "DbrxModel": ({"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 64, "vocab_size": 99, "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 1e4},
                       "ffn_config": {"ffn_hidden_size": 32, "moe_num_experts": 4, "moe_top_k": 2}}, TEXT),
        "SwitchTransformersModel": (T5 | {"num_experts": 4, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1}, PAIR),
        "NllbMoeModel": (BART | {"num_experts": 4, "encoder_sparse_step": 2, "decoder_sparse_step": 2}, PAIR),
    },
    "state space and recurrent": {
        **same("MambaModel FalconMambaModel", MAMBA, IDS),
        "Mamba2Model": (MAMBA | {"num_heads": 8, "head_dim": 8, "n_groups": 2, "chunk_size": 4}, IDS),
        "RwkvModel": ({"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 99, "attention_hidden_size": 32, "intermediate_size": 64}, IDS),
        "RecurrentGemmaModel": (TINY | {"lru_width": 32, "attention_window_size": 8, "num_key_value_heads": 2, "num_hidden_layers": 3}, IDS),
        "JambaModel": (LLAMA | {"num_experts": 2, "mamba_d_state": 4, "attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False}, TEXT),
        "BambaModel": (LLAMA | {"attn_layer_indices": [1], "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 4, "mamba_n_groups": 1,
                                "mamba_chunk_size": 4}, TEXT),
        "Lfm2Model": (LLAMA | {"full_attn_idxs": [1], "block_ff_dim": 64}, TEXT),
    },
    "audio": {
        **same("Wav2Vec2Model HubertModel WavLMModel UniSpeechModel UniSpeechSatModel Data2VecAudioModel Wav2Vec2ConformerModel", SPEECH, WAVE),
        "SEWModel": (SPEECH | {"conv_dim": (16,) * 4, "conv_stride": (5, 4, 2, 2), "conv_kernel": (10, 8, 4, 4), "num_feat_extract_layers": 4, "squeeze_factor": 2}, WAVE),
        "WhisperModel": (BART | {"num_mel_bins": 16, "max_source_positions": 20, "max_target_positions": 20},
                         named(input_features=(2, 16, 40), decoder_input_ids=ids(2, 6))),
        "Speech2TextModel": (BART | {"input_feat_per_channel": 16, "input_channels": 1, "conv_channels": 16, "max_source_positions": 64,
                                     "max_target_positions": 64}, named(input_features=(2, 40, 16), decoder_input_ids=ids(2, 6))),
        "ASTModel": (LAYERS | {"max_length": 64, "num_mel_bins": 32, "patch_size": 16}, named(input_values=(2, 64, 32))),
        "EncodecModel": ({"num_filters": 4, "hidden_size": 16, "codebook_dim": 16, "codebook_size": 16, "upsampling_ratios": [4, 2]},
                         named(input_values=(2, 1, 800))),
        "DacModel": ({"encoder_hidden_size": 8, "decoder_hidden_size": 32, "n_codebooks": 2, "codebook_size": 16, "downsampling_ratios": [2, 4],
                      "upsampling_ratios": [4, 2]}, named(input_values=(2, 1, 640))),
        "VitsModel": ({"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 32, "vocab_size": 99, "flow_size": 16,
                       "spectrogram_bins": 9, "prior_encoder_num_wavenet_layers": 1, "posterior_encoder_num_wavenet_layers": 1,
                       "upsample_initial_channel": 16, "upsample_rates": [2, 2], "upsample_kernel_sizes": [4, 4], "resblock_kernel_sizes": [3],
                       "resblock_dilation_sizes": [[1, 3]], "prior_encoder_num_flows": 1, "wavenet_dilation_rate": 1}, TEXT),
    },
    "vision": {
        **same("ViTModel ViTForImageClassification DeiTModel BeitModel Dinov2Model ViTMSNModel IJepaModel", VIT, IMAGE),
        "ViTMAEForPreTraining": (VIT | {"decoder_hidden_size": 16, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 4,
                                        "decoder_intermediate_size": 32}, IMAGE),
        "SwinModel": (STAGES, PHOTO),
        "Swinv2Model": (STAGES, PHOTO),
        "ConvNextModel": ({"depths": [1, 1, 2, 1], "hidden_sizes": [8, 16, 24, 32]}, PHOTO),
        "ConvNextV2Model": ({"depths": [1, 1, 2, 1], "hidden_sizes": [8, 16, 24, 32]}, PHOTO),
        "SegformerModel": ({"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 24, 32], "num_attention_heads": [1, 2, 2, 4]}, PHOTO),
        "MobileViTModel": ({"hidden_sizes": [16, 24, 32], "neck_hidden_sizes": [8, 8, 16, 16, 24, 24, 48], "num_attention_heads": 4, "image_size": 64}, PHOTO),
        "PoolFormerModel": ({"depths": [1, 1, 1, 1], "hidden_sizes": [8, 16, 24, 32]}, PHOTO),
        "LevitModel": ({"image_size": 64, "hidden_sizes": [16, 24, 32], "num_attention_heads": [2, 3, 4], "depths": [1, 1, 1], "key_dim": [8, 8, 8]}, PHOTO),
        "RegNetModel": ({"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1], "groups_width": 8}, PHOTO),
        "ResNetModel": ({"embedding_size": 8, "hidden_sizes": [16, 24, 32, 48], "depths": [1, 1, 2, 1]}, PHOTO),
        "BitModel": ({"embedding_size": 8, "hidden_sizes": [16, 32, 32, 64], "depths": [1, 1, 2, 1], "num_groups": 4}, PHOTO),
        "CvtModel": ({"embed_dim": [16, 32], "num_heads": [1, 2], "depth": [1, 2], "patch_sizes": [7, 3], "patch_stride": [4, 2], "patch_padding": [2, 1],
                      "mlp_ratio": [2.0, 2.0], "attention_drop_rate": [0.0, 0.0], "drop_rate": [0.0, 0.0], "drop_path_rate": [0.0, 0.1],
                      "qkv_bias": [True, True], "cls_token": [False, True], "qkv_projection_method": ["dw_bn"] * 2, "kernel_qkv": [3, 3],
                      "padding_kv": [1, 1], "stride_kv": [2, 2], "padding_q": [1, 1], "stride_q": [1, 1]}, PHOTO),
        "PvtV2Model": ({"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 2, 2, 4], "image_size": 64}, PHOTO),
        "FocalNetModel": ({"embed_dim": 16, "depths": [1, 1, 1, 1], "hidden_sizes": [16, 32, 48, 64], "image_size": 64}, PHOTO),
        "HieraModel": ({"embed_dim": 16, "image_size": [64, 64], "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 8]}, PHOTO),
        "MobileNetV1Model": ({"depth_multiplier": 0.25}, PHOTO),
        "MobileNetV2Model": ({"depth_multiplier": 0.35}, PHOTO),
        "EfficientNetModel": ({"width_coefficient": 0.25, "depth_coefficient": 0.5, "hidden_dim": 320, "image_size": 64}, PHOTO),
        "YolosModel": (VIT | {"image_size": [32, 32], "num_detection_tokens": 5}, IMAGE),
        "VideoMAEModel": (VIT | {"num_frames": 4}, named(pixel_values=(2, 4, 3, 32, 32))),
        "TimesformerModel": (VIT | {"num_frames": 4}, named(pixel_values=(2, 4, 3, 32, 32))),
        "VivitModel": (VIT | {"num_frames": 4, "tubelet_size": [2, 8, 8]}, named(pixel_values=(2, 4, 3, 32, 32))),
        "DPTForDepthEstimation": (VIT | {"num_hidden_layers": 4, "backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [8, 16, 16, 16],
                                         "fusion_hidden_size": 16, "reassemble_factors": [4, 2, 1, 0.5], "is_hybrid": False}, IMAGE),
        "Swin2SRModel": ({"image_size": 32, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4}, IMAGE),
        "SamVisionModel": (LAYERS | {"output_channels": 16, "image_size": 64, "patch_size": 8, "window_size": 4, "global_attn_indexes": [1]}, PHOTO),
    },
    "multimodal": {
        **same("CLIPModel SiglipModel BlipModel ChineseCLIPModel", TOWERS, named(input_ids=ids(2, 8), pixel_values=(2, 3, 32, 32),
                                                                                attention_mask=torch.ones(2, 8, dtype=torch.int64))),
        "ViltModel": (BERT | VIT, named(input_ids=ids(2, 8), pixel_values=(2, 3, 32, 32))),
        "VisualBertModel": (BERT | {"visual_embedding_dim": 16}, named(input_ids=ids(2, 8), visual_embeds=(2, 4, 16))),
        "LxmertModel": ({"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 99, "l_layers": 1, "x_layers": 1,
                         "r_layers": 1, "visual_feat_dim": 16}, named(input_ids=ids(2, 8), visual_feats=(2, 4, 16), visual_pos=(2, 4, 4))),
        "GitModel": (BERT | {"vision_config": TOWER}, named(input_ids=ids(2, 8), pixel_values=(2, 3, 32, 32))),
        "LlavaModel": ({"vision_config": TOWER | {"model_type": "clip_vision_model"}, "text_config": LLAMA | {"model_type": "llama"}, "image_token_id": 98},
                       named(input_ids=images_in_text(98, 16), pixel_values=(1, 3, 32, 32))),
        "OwlViTModel": (TOWERS, named(input_ids=ids(2, 8), pixel_values=(2, 3, 32, 32))),
        "ClapAudioModel": ({"window_size": 4, "num_mel_bins": 32, "spec_size": 64, "patch_size": 4, "patch_stride": [4, 4], "hidden_size": 32,
                            "patch_embeds_hidden_size": 16, "depths": [1, 1], "num_attention_heads": [2, 2], "num_hidden_layers": 2},
                           named(input_features=(2, 1, 64, 32))),
    },
    "time series": {
        "PatchTSTModel": ({"num_input_channels": 2, "context_length": 32, "patch_length": 8, "patch_stride": 8, "d_model": 16, "num_hidden_layers": 2,
                           "num_attention_heads": 2, "ffn_dim": 32}, named(past_values=(2, 32, 2))),
        "PatchTSMixerModel": ({"num_input_channels": 2, "context_length": 32, "patch_length": 8, "patch_stride": 8, "d_model": 16, "num_layers": 2},
                              named(past_values=(2, 32, 2))),
        **same("TimeSeriesTransformerModel InformerModel", SERIES, named(**PAST)),
        "AutoformerModel": (SERIES | {"moving_average": 3, "label_length": 4}, named(**PAST)),
        "DecisionTransformerModel": ({"state_dim": 5, "act_dim": 3, "hidden_size": 32, "n_layer": 2, "n_head": 4},
                                     named(states=(2, 4, 5), actions=(2, 4, 3), rewards=(2, 4, 1), returns_to_go=(2, 4, 1),
                                           timesteps=torch.arange(4).repeat(2, 1), attention_mask=torch.ones(2, 4, dtype=torch.int64))),
    },
}  # fmt: skip


def make(name: str, settings: dict[str, Any]) -> torch.nn.Module:
    """Return a transformers model by its class."""
    import transformers

    kind = getattr(transformers, name)
    model: torch.nn.Module = kind(kind.config_class(**settings))
    return model
