#!/usr/bin/env python3
"""Checks MoRA adapters of the authors' fork of PEFT on a whole model: check_fork.py MODEL_DIR WORK_DIR

The fork attaches MoRA of each of its types to MODEL_DIR, random numbers go into the matrices, and the fork
saves it. Our programs load that folder; their logits over 256 random tokens, computed in float64 and in float32, must
be those of the fork's forward pass in float64 within 1e-5 of the largest, and 64 greedy tokens equal. How far the
fork's own float32 is from its float64 stands beside: a deep model has tokens that magnify rounding.

A model of transformers turned to float64 still computes its norms, its softmax and RoPE's angles in float32; here it
does not (in_float64).

    PYTHONPATH=MoRA/peft-mora/src fork-env/bin/python check_fork.py MODEL_DIR WORK_DIR

with the fork's environment of tests/golden/make_adapter_goldens.py. MORA_BUILD names the build folder
(default: build). Exit code 1 when anything differs.
"""

import sys
from pathlib import Path
from unittest.mock import patch

import torch
import transformers
from check_peft import compare
from make_model_goldens import TOKENS
from peft import LoraConfig, get_peft_model

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
TYPES = (1, 2, 3, 4, 6)
LARGEST_ERROR = 1e-5


def adapted(model_dir, mora_type, folder):
    """The model with random MoRA of a type, which the fork saves into the folder."""
    base = transformers.AutoModelForCausalLM.from_pretrained(model_dir, torch_dtype=torch.float32)
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", r=3, target_modules=TARGETS, use_mora=True,
                                            mora_type=mora_type))
    generator = torch.Generator().manual_seed(mora_type)
    for name, parameter in model.named_parameters():
        if "lora_A" in name:  # lora_B is the same module
            parameter.data = 0.01 * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(folder)
    return model


def in_float64(model):
    """The model in float64, also in what it asks for in float32."""
    forward = model.double().forward

    def wide(*args, **kwargs):
        with patch.object(torch, "float32", torch.float64), patch.object(torch.Tensor, "float", torch.Tensor.double):
            return forward(*args, **kwargs)

    for module in model.modules():
        if hasattr(module, "inv_freq"):  # RoPE's, which were made in float32
            dim = 2 * module.inv_freq.numel()
            module.inv_freq = model.config.rope_theta ** (-torch.arange(0, dim, 2).double() / dim)
            module._set_cos_sin_cache(module.max_seq_len_cached, module.inv_freq.device, torch.float64)
    model.forward = wide
    return model


def main():
    model_dir, work = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    work.mkdir(parents=True, exist_ok=True)
    vocabulary = transformers.AutoConfig.from_pretrained(model_dir).vocab_size
    ids = torch.randint(0, vocabulary, (TOKENS,), generator=torch.Generator().manual_seed(1)).tolist()
    fine = True
    for mora_type in TYPES:
        folder = work / f"fork-{mora_type}"
        model = adapted(model_dir, mora_type, folder).eval()
        with torch.no_grad():
            single = model(torch.tensor([ids])).logits.double()
            model = in_float64(model)
            double = model(torch.tensor([ids])).logits
        own = ((single - double).abs().max() / double.abs().max()).item()
        print(f"MoRA of type {mora_type}: the fork's float32 is {own:.1e} from its float64", flush=True)
        for name, options in (("float64", ["--f64"]), ("float32", [])):
            fine &= compare(f"  ours in {name}", model_dir, model, ids, folder, work, LARGEST_ERROR, options)
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
