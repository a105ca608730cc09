#!/usr/bin/env python3
"""Compares LLaMAs of odd shapes and random weights with transformers: check_random_models.py WORK_DIR SEED...

Each seed is a model that transformers writes: its sizes, heads, biases, RoPE, tied or untied output, type of
the weights (fp32, fp16 or bf16) and size of shards are drawn. Our programs must give transformers' logits
over 256 tokens and its 64 greedy tokens for the model as it is; through GGUF (F32) and back, where GGUF can
hold it; and with an adapter that PEFT wrote, before and after merging, and after our programs wrote it again
and PEFT loaded that.

Needs the environment of tests/golden/README.md. MORA_BUILD names the build folder (default: build).
Exit code 1 when anything differs by 1e-4 of the largest logit, or in a token.
"""

import random
import shutil
import sys
import warnings
from pathlib import Path

import torch
import transformers
from check_peft import BUILD, ROOT, compare, run
from make_model_goldens import TOKENS
from peft import LoraConfig, PeftModel, get_peft_model

TOKENIZER = ROOT / "tests/golden/tokenizers/smollm2.json"
LEAST_VOCABULARY = 720  # the tokenizer's tokens fit
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def rope(draw):
    theta = draw.choice([100.0, 10000.0, 500000.0])
    scaling = draw.choice([
        {"rope_type": "default"}, {"rope_type": "default"},
        {"rope_type": "linear", "factor": draw.choice([2.0, 3.5])},
        {"rope_type": "dynamic", "factor": 2.0},
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
         "original_max_position_embeddings": 64},
    ])
    return {"rope_theta": theta, **scaling}


def random_config(draw):
    heads = draw.choice([1, 2, 3, 4, 6, 8])
    head_dim = draw.choice([2, 4, 6, 10, 16, 22])
    own_head_dim = draw.random() < 0.5
    return transformers.LlamaConfig(
        vocab_size=LEAST_VOCABULARY + draw.randrange(400), num_attention_heads=heads,
        hidden_size=heads * (draw.randrange(1, 20) if own_head_dim else head_dim),
        head_dim=head_dim if own_head_dim else None, intermediate_size=draw.randrange(1, 150),
        num_hidden_layers=draw.randrange(1, 5),
        num_key_value_heads=draw.choice([n for n in range(1, heads + 1) if heads % n == 0]),
        max_position_embeddings=512, rms_norm_eps=draw.choice([1e-5, 1e-6]), initializer_range=0.2,
        tie_word_embeddings=draw.random() < 0.5, attention_bias=draw.random() < 0.25,
        mlp_bias=draw.random() < 0.25, rope_parameters=rope(draw), bos_token_id=1,
        eos_token_id=draw.choice([2, [2, 5]]))


def make_model(draw, folder):
    """Writes a model; returns what to call it and its configuration."""
    config = random_config(draw)
    model = transformers.LlamaForCausalLM(config)
    for name, parameter in model.named_parameters():  # norms and biases are random, too
        if parameter.dim() == 1:
            parameter.data = torch.randn(parameter.shape) * 0.3 + ("norm" in name)
    dtype = draw.choice(["float32", "float16", "bfloat16"])
    shard = draw.choice(["1GB", "100KB", "7KB"])
    model.to(getattr(torch, dtype)).save_pretrained(folder, max_shard_size=shard)
    shutil.copy(TOKENIZER, folder / "tokenizer.json")
    kind = config.rope_parameters["rope_type"]
    return (f"{dtype}, {len(list(folder.glob('*.safetensors')))} files, RoPE {kind}, "
            f"{'tied' if config.tie_word_embeddings else 'untied'}"), config


def random_adapter(draw, model):
    targets = draw.sample(LINEAR, draw.randrange(1, 8))
    settings = LoraConfig(
        task_type="CAUSAL_LM", r=draw.randrange(1, 9), lora_alpha=draw.randrange(1, 20), target_modules=targets,
        use_rslora=draw.random() < 0.5, rank_pattern={targets[0]: draw.randrange(1, 9)} if draw.random() < 0.5 else {},
        alpha_pattern={targets[-1]: draw.randrange(1, 20)} if draw.random() < 0.5 else {},
        layers_to_transform=[0] if draw.random() < 0.3 else None,
        modules_to_save=draw.choice([None, ["norm"], ["norm"] if model.config.tie_word_embeddings else ["lm_head"]]))
    adapted = get_peft_model(model, settings)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape)
    return adapted


def load(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def check(seed, work):
    draw = random.Random(seed)
    torch.manual_seed(seed)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    base = work / "model"
    name, config = make_model(draw, base)
    ids = torch.randint(0, config.vocab_size, (TOKENS,)).tolist()
    golden = work / "golden"
    golden.mkdir()
    fine = compare(f"{seed}: {name}", base, load(base), ids, None, golden)
    biases = config.attention_bias or config.mlp_bias
    if not biases and config.rope_parameters["rope_type"] != "dynamic":
        run(BUILD / "mora-convert", "hf-to-gguf", "--model", base, "--out", work / "m.gguf", "--type", "f32")
        run(BUILD / "mora-convert", "gguf-to-hf", "--model", work / "m.gguf", "--out", work / "back")
        fine &= compare(f"{seed}: through GGUF", work / "back", load(base), ids, None, golden)
    adapted = random_adapter(draw, load(base))
    adapted.save_pretrained(work / "adapter")
    fine &= compare(f"{seed}: with PEFT's adapter", base, adapted, ids, work / "adapter", golden)
    run(BUILD / "mora-convert", "merge", "--model", base, "--adapter", work / "adapter", "--out", work / "merged",
        "--dtype", "float32", "--max-shard-size", "50KB")
    fine &= compare(f"{seed}: merged", work / "merged", adapted, ids, None, golden)
    run(BUILD / "mora-convert", "adapter", "--to", "lora", "--adapter", work / "adapter", "--model", base, "--out",
        work / "again")
    again = PeftModel.from_pretrained(load(base), work / "again")
    return fine & compare(f"{seed}: written again, loaded by PEFT", base, again, ids, work / "adapter", golden)


def main():
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    fine = True
    for seed in sys.argv[2:]:
        fine &= check(int(seed), Path(sys.argv[1]).resolve() / "random-model")
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
