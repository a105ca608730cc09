#!/usr/bin/env python3
"""Checks adapters against stock PEFT in both directions: check_peft.py MODEL_DIR WORK_DIR

Ours: adapters are trained on MODEL_DIR for some steps; PEFT loads LoRA and rsLoRA as they are and MoRA as
the LoRA that `mora-convert adapter --to lora` makes of it, and its logits (256 tokens) and greedy
continuation (64) must be those of our programs with the adapter as trained, and as converted.
Theirs: PEFT writes adapters of other settings, which our programs load, merge, and make plain LoRAs of,
which PEFT loads again.

Needs the environment of tests/golden/README.md. MORA_BUILD names the build folder (default: build).
Exit code 1 when anything differs by 1e-4 of the largest logit, or in a token.
"""

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model

ROOT = Path(__file__).resolve().parents[1]
BUILD = Path(os.environ.get("MORA_BUILD", ROOT / "build"))
sys.path.insert(0, str(ROOT / "tests/golden"))
from make_goldens import write_safetensors  # noqa: E402
from make_model_goldens import TOKENS, golden_of, load  # noqa: E402

OURS = {
    "lora": {"method": "lora", "r": 4},
    "rslora": {"method": "lora", "r": 4, "use_rslora": True, "target_modules": ["q_proj", "down_proj"]},
    "dora, saved norms": {"method": "lora", "r": 4, "use_dora": True, "modules_to_save": ["norm"]},
    **{f"mora {g}": {"method": "mora", "r": 4, "grouping": g}
       for g in ("strided", "contiguous", "contiguous_strided", "strided_contiguous")},
    "mora truncation": {"method": "mora", "r": 4, "operator": "truncation"},
}
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
THEIRS = {
    "patterns": dict(r=4, lora_alpha=8, target_modules=ATTENTION, rank_pattern={"v_proj": 2, "0.self_attn.q_proj": 7},
                     alpha_pattern={r"layers\.[135]\.self_attn\.k_proj": 3}),
    "expression": dict(r=4, lora_alpha=8, target_modules=r".*\.\d*[02468]\.mlp\.(up|down)_proj", use_rslora=True),
    "all-linear, saved norms": dict(r=2, target_modules="all-linear", exclude_modules=["o_proj"],
                                    modules_to_save=["norm"]),
    "layers": dict(r=4, target_modules=ATTENTION, layers_to_transform=[0, 2], layers_pattern="layers"),
    "one layer, rsLoRA": dict(r=4, target_modules=["up_proj"], layers_to_transform=1, use_rslora=True),
    "DoRA": dict(r=4, lora_alpha=8, target_modules=ATTENTION, use_dora=True),
    "saved block": dict(r=4, target_modules=["q_proj"], modules_to_save=["layers.0.mlp"]),
}


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr}{done.stdout}")
    return done.stdout


def train(model_dir, folder, adapter):
    config = {"task": "uuid", "output_dir": str(folder), "model": {"path": str(model_dir)}, "adapter": adapter,
              "data": {"pairs": 8}, "train": {"max_steps": 4, "per_device_train_batch_size": 2, "learning_rate": 0.003},
              "eval": {"num_samples": 1}}
    (folder.parent / "config.json").write_text(json.dumps(config))
    run(BUILD / "mora-train", "--config", folder.parent / "config.json", "--overwrite")
    return folder / "adapter"


def compare(what, model_dir, model, ids, adapter, work, largest=1e-4, options=()):
    """Whether our programs (mora-check-model with these options) and the model agree, to this part of the largest
    logit and in every greedy token."""
    golden = work / "golden.safetensors"
    write_safetensors(golden, golden_of(model, ids), command="check_peft.py")
    command = [BUILD / "mora-check-model", *options, model_dir, golden]
    done = subprocess.run(command + ([adapter] if adapter else []), capture_output=True, text=True)
    print(f"{what}: {done.stdout or done.stderr}", end="", flush=True)
    found = re.search(r"relative difference (\S+);", done.stdout)
    fine = done.returncode == 0 and (float(found[1]) if found else math.inf) < largest
    # The base alone must not pass, or the adapter would be too small to show anything.
    bare = adapter and subprocess.run(command, capture_output=True, text=True)
    if bare and bare.returncode != 1:
        print(f"{what}: the base without the adapter: {bare.stdout or bare.stderr}", end="")
    return fine and (not bare or bare.returncode == 1)


def main():
    model_dir, work = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    work.mkdir(parents=True, exist_ok=True)
    _, ids = load(model_dir)
    ids = ids[:TOKENS]
    fine = True

    def base():
        return transformers.AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)

    for name, settings in OURS.items():
        adapter = train(model_dir, work / "run", settings)
        theirs = adapter
        if settings["method"] == "mora":
            theirs = work / "converted"
            subprocess.run(["rm", "-rf", theirs], check=True)
            run(BUILD / "mora-convert", "adapter", "--to", "lora", "--adapter", adapter, "--model", model_dir, "--out",
                theirs)
        model = PeftModel.from_pretrained(base(), theirs)
        fine &= compare(f"{name}, loaded by PEFT", model_dir, model, ids, adapter, work)
        if theirs != adapter:
            fine &= compare(f"{name}, converted", model_dir, model, ids, theirs, work)
    for name, settings in THEIRS.items():
        model = get_peft_model(base(), LoraConfig(task_type="CAUSAL_LM", **settings))
        generator = torch.Generator().manual_seed(1)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data += 0.02 * torch.randn(parameter.shape, generator=generator)
        subprocess.run(["rm", "-rf", work / "theirs", work / "converted", work / "merged"], check=True)
        model.save_pretrained(work / "theirs")
        fine &= compare(f"PEFT's {name}", model_dir, model, ids, work / "theirs", work)
        run(BUILD / "mora-convert", "merge", "--model", model_dir, "--adapter", work / "theirs", "--out",
            work / "merged", "--dtype", "float32")
        fine &= compare(f"PEFT's {name}, merged", work / "merged", model, ids, None, work)
        if settings.get("use_dora"):  # its update has full rank
            continue
        run(BUILD / "mora-convert", "adapter", "--to", "lora", "--adapter", work / "theirs", "--model", model_dir,
            "--out", work / "converted")
        again = PeftModel.from_pretrained(base(), work / "converted")
        fine &= compare(f"PEFT's {name}, converted and loaded by PEFT", model_dir, again, ids, work / "theirs", work)
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
