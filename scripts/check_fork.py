#!/usr/bin/env python3
"""Checks MoRA adapters of the authors' fork of PEFT on a whole model: check_fork.py MODEL_DIR WORK_DIR

The fork attaches MoRA of each of its types to MODEL_DIR, random numbers go into the matrices, and the fork
saves it. Our programs load that folder; their logits over 256 random tokens, computed in float64 and in float32, must
be those of the fork's forward pass in float64 within 1e-5 of the largest, and 64 greedy tokens equal. How far the
fork's own float32 is from its float64 stands beside: a deep model has tokens that magnify rounding.

    PYTHONPATH=MoRA/peft-mora/src fork-env/bin/python check_fork.py MODEL_DIR WORK_DIR

with the fork's environment of tests/golden/make_adapter_goldens.py. MORA_BUILD names the build folder
(default: build). Exit code 1 when anything differs.
"""

import sys
from pathlib import Path

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


def rounding(model, ids):
    """How far the fork's float32 is from its float64, in parts of the largest logit; leaves the model in float64."""
    with torch.no_grad():
        single = model.eval()(torch.tensor([ids])).logits.double()
        double = model.double()(torch.tensor([ids])).logits
    return ((single - double).abs().max() / double.abs().max()).item()


def main():
    model_dir, work = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    work.mkdir(parents=True, exist_ok=True)
    vocabulary = transformers.AutoConfig.from_pretrained(model_dir).vocab_size
    ids = torch.randint(0, vocabulary, (TOKENS,), generator=torch.Generator().manual_seed(1)).tolist()
    fine = True
    for mora_type in TYPES:
        folder = work / f"fork-{mora_type}"
        model = adapted(model_dir, mora_type, folder)
        print(f"MoRA of type {mora_type}: the fork's float32 is {rounding(model, ids):.1e} from its float64", flush=True)
        for name, options in (("float64", ["--f64"]), ("float32", [])):
            fine &= compare(f"  ours in {name}", model_dir, model, ids, folder, work, LARGEST_ERROR, options)
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
