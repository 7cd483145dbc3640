"""More text models of transformers than the first table has: odd positions, hybrids of attention and state spaces, experts."""

from __future__ import annotations

import torch
from zoo_transformers import BART, BERT, GPT, IDS, LLAMA, PAIR, T5, TEXT, TINY, Table, ids, named, same


def boxes(*shape: int) -> torch.Tensor:
    """Return places on a page, as fractions of it."""
    return torch.linspace(0, 1, shape[-1]).expand(shape)


ARCHITECTURES: Table = {
    "encoder": {
        **same("XLMModel FlaubertModel", {"emb_dim": 32, "n_layers": 2, "n_heads": 4, "n_words": 99, "max_position_embeddings": 64, "pad_index": 0}, TEXT),
        "XmodModel": (BERT | {"default_language": "en_XX"}, TEXT),
        **same("XLMRobertaXLModel RobertaPreLayerNormModel SplinterModel MraModel YosoModel EuroBertModel "
             "BertGenerationEncoder DPRQuestionEncoder NomicBertModel MarkupLMModel", BERT, TEXT),
        "LiltModel": (BERT | {"hidden_size": 48}, named(input_ids=ids(2, 8), bbox=boxes(2, 8, 4).long())),
        "TapasModel": (BERT | {"type_vocab_sizes": [3, 8, 8, 2, 8, 8, 2]}, TEXT),
        "BrosModel": (BERT | {"hidden_size": 128, "dim_bbox": 8}, named(input_ids=ids(2, 8), bbox=boxes(2, 8, 8))),
    },
    "decoder": {
        "ModernBertDecoderModel": (TINY | {"max_position_embeddings": 64, "cls_token_id": 1, "sep_token_id": 2, "local_attention": 4}, TEXT),
        "GPTNeoXJapaneseModel": (BERT | {"intermediate_multiple_size": 2}, TEXT),
        **same("BitNetModel ArceeModel ApertusModel DogeModel Ernie4_5Model Exaone4Model Olmo3Model SeedOssModel "
             "VaultGemmaModel Glm4Model MinistralModel NanoChatModel HunYuanDenseV1Model Jais2Model CwmModel", LLAMA, TEXT),
        "ImageGPTModel": (GPT, IDS),
        "Gemma3nTextModel": (LLAMA | {"vocab_size_per_layer_input": 99, "hidden_size_per_layer_input": 8, "altup_num_inputs": 2, "laurel_rank": 4,
            "num_kv_shared_layers": 0, "intermediate_size": [64, 64], "activation_sparsity_pattern": [0.0, 0.0], "layer_types": ["sliding_attention",
            "full_attention"]}, TEXT),
        "BarkCoarseModel": ({"hidden_size": 32, "num_layers": 2, "num_heads": 4, "input_vocab_size": 99, "output_vocab_size": 99, "block_size": 32},
            IDS),
    },
    "encoder-decoder": {
        "BigBirdPegasusModel": (BART | {"attention_type": "original_full"}, PAIR),
        "PegasusXModel": (BART | {"block_size": 4, "num_global_tokens": 2}, PAIR),
        "MvpModel": (BART, PAIR),
        "T5GemmaModel": ({"encoder": LLAMA, "decoder": LLAMA | {"cross_attention_hidden_size": 32}}, PAIR),
        "Pop2PianoForConditionalGeneration": (T5 | {"composer_vocab_size": 5}, PAIR),
    },
    "mixture of experts": {
        "DeepseekV2Model": (LLAMA | {"n_routed_experts": 4, "n_group": 2, "topk_group": 1, "num_experts_per_tok": 2, "first_k_dense_replace": 1,
            "moe_intermediate_size": 32, "kv_lora_rank": 8, "q_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8,
            "num_key_value_heads": 4, "head_dim": 4}, TEXT),
        "Ernie4_5_MoeModel": (LLAMA | {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 32, "moe_layer_start_index": 1,
            "moe_num_shared_experts": 1}, TEXT),
        **same("Dots1Model Glm4MoeModel", LLAMA | {"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "num_experts_per_tok": 2, "first_k_dense_replace": 1, "moe_intermediate_size": 32, "n_shared_experts": 1}, TEXT),
        "GraniteMoeSharedModel": (LLAMA | {"num_local_experts": 4, "num_experts_per_tok": 2, "shared_intermediate_size": 32}, TEXT),
        "FlexOlmoModel": (LLAMA | {"num_experts": 4, "num_experts_per_tok": 2}, TEXT),
        "MiniMaxModel": (LLAMA | {"num_local_experts": 4, "num_experts_per_tok": 2, "block_size": 4, "layer_types": ["linear_attention",
            "full_attention"]}, TEXT),
        "Llama4TextModel": (LLAMA | {"num_local_experts": 4, "num_experts_per_tok": 1, "intermediate_size_mlp": 64, "interleave_moe_layer_step": 2},
            TEXT),
        "AriaTextModel": (LLAMA | {"moe_num_experts": 4, "moe_topk": 2, "moe_num_shared_experts": 1}, TEXT),
    },
    "state space and recurrent": {
        "Qwen3NextModel": (LLAMA | {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32,
            "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
            "layer_types": ["linear_attention", "full_attention"]}, TEXT),
        "xLSTMModel": ({"hidden_size": 64, "num_hidden_layers": 2, "num_heads": 4, "vocab_size": 99, "chunk_size": 8, "qk_dim_factor": 1.0}, IDS),
        "Zamba2Model": (LLAMA | {"mamba_d_state": 4, "n_mamba_heads": 8, "mamba_headdim": 8, "chunk_size": 4, "layers_block_type": ["mamba",
            "hybrid"], "use_mamba_kernels": False, "attention_head_dim": 16, "attention_hidden_size": 64, "mamba_ngroups": 1}, TEXT),
        "FalconH1Model": (LLAMA | {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 4, "mamba_n_groups": 1, "mamba_chunk_size": 4,
            "mamba_d_ssm": 64}, TEXT),
        "GraniteMoeHybridModel": (LLAMA | {"num_local_experts": 4, "num_experts_per_tok": 2, "shared_intermediate_size": 32, "layer_types": ["mamba",
            "attention"], "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 4, "mamba_n_groups": 1, "mamba_chunk_size": 4}, TEXT),
        "NemotronHModel": (LLAMA | {"hybrid_override_pattern": "M*", "mamba_num_heads": 8, "mamba_head_dim": 8, "ssm_state_size": 4, "n_groups": 1,
            "chunk_size": 4}, TEXT),
        "OlmoHybridModel": (LLAMA | {"layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 2, "linear_num_value_heads": 2,
            "linear_key_head_dim": 8, "linear_value_head_dim": 8}, TEXT),
        "KimiLinearModel": (LLAMA | {"num_key_value_heads": 4, "layer_types": ["linear_attention", "full_attention"], "kv_lora_rank": 8,
            "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8, "linear_attn_config": {"num_heads": 4, "head_dim": 8, "kda_layers": [1],
            "full_attn_layers": [2], "short_conv_kernel_size": 4}, "num_experts": 4, "num_experts_per_token": 2, "moe_intermediate_size": 32}, TEXT),
    },
}  # fmt: skip
