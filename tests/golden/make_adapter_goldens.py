#!/usr/bin/env python3
"""Makes adapters_peft.safetensors or adapters_fork.safetensors: adapter folders as stock PEFT or the MoRA
authors' fork of it saves them, with the logits of the model that they make.

    env/bin/python make_adapter_goldens.py                             # stock PEFT
    PYTHONPATH=MoRA/peft-mora/src fork-env/bin/python make_adapter_goldens.py   # the fork

Run them in this order. Which one is told from the peft that is imported. Versions the committed files were made with: Python
3.11.7, torch 2.15.0; peft 0.21.2 with transformers 5.23.0, and the fork (github.com/kongds/MoRA at
de5df31) with transformers 4.37.2.

The base is llama_adapters/ beside this script, which the first command makes; trained numbers are
replaced by random ones from a fixed seed. Logits are computed in float64. Of each case the file holds adapter_config.json (metadata
"<case>.config"), the tensors ("<case>.tensors.<name>") and the logits ("<case>.logits"); "input_ids" is
common to all.
"""

import json
import tempfile
from pathlib import Path

import peft
import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from safetensors.torch import save_file

OUT = Path(__file__).resolve().parent
FORK = "use_mora" in LoraConfig.__dataclass_fields__
BASE = OUT / "llama_adapters"
IDS = torch.tensor([[5, 30, 17, 3, 36, 11, 8, 2]])
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
SHAPES = ["q_proj", "k_proj", "up_proj", "down_proj"]  # one of each shape

STOCK = {
    "plain": dict(r=2, lora_alpha=3, target_modules=ALL),
    "rslora": dict(r=3, lora_alpha=3, use_rslora=True, target_modules=["q_proj", "down_proj"]),
    "patterns": dict(r=2, lora_alpha=3, target_modules=ALL,
                     rank_pattern={"q_proj": 4, r"layers\.1\.mlp\.down_proj": 1, ".*k_proj": 3},
                     alpha_pattern={"v_proj": 7, "layers.0.self_attn.q_proj": 5, "q_proj": 9}),
    "alternatives": dict(r=2, lora_alpha=3, target_modules=ALL, rank_pattern={"k_proj|up_proj": 1},
                         alpha_pattern={"o_proj|layers.1.self_attn.k_proj": 5}),
    "first_pattern": dict(r=2, lora_alpha=3, target_modules=["q_proj"],
                          rank_pattern={"layers.0.self_attn.q_proj": 1, "q_proj": 3, "roj": 5}),
    "regex": dict(r=2, lora_alpha=3,
                  target_modules=r".*layers\.[01]\.(self_attn\.(q|v)|mlp\.up)_proj"),
    "whole_regex": dict(r=2, lora_alpha=3, target_modules=r"model\.layers\.\d+\.self_attn\.(?!o).*"),
    "all_linear": dict(r=2, lora_alpha=3, target_modules="all-linear"),
    "exclude": dict(r=2, lora_alpha=3, target_modules=ALL, exclude_modules=["q_proj", "0.mlp.up_proj"]),
    "exclude_regex": dict(r=2, lora_alpha=3, target_modules="all-linear", exclude_modules=r".*\.1\..*"),
    "layers": dict(r=2, lora_alpha=3, target_modules=["q_proj", "up_proj"], layers_to_transform=[1]),
    "one_layer": dict(r=2, lora_alpha=3, target_modules=["v_proj"], layers_to_transform=0,
                      layers_pattern="layers"),
    "layers_patterns": dict(r=2, lora_alpha=3, target_modules=["v_proj"], layers_to_transform=[0],
                            layers_pattern=["blocks", "layers"]),
    "saved_output": dict(r=2, lora_alpha=3, target_modules=["q_proj"],
                         modules_to_save=["lm_head", "embed_tokens"]),
    "saved_norms": dict(r=2, lora_alpha=3, target_modules=["q_proj"], modules_to_save=["norm"]),
    "saved_layer": dict(r=2, lora_alpha=3, target_modules=["q_proj"],
                        modules_to_save=["layers.1.mlp.down_proj"]),
    "saved_block": dict(r=2, lora_alpha=3, target_modules=["q_proj"], modules_to_save=["0.mlp"]),
    "float16": dict(r=2, lora_alpha=3, target_modules=["q_proj", "up_proj"], dtype=torch.float16),
    "bfloat16": dict(r=2, lora_alpha=3, target_modules=["q_proj", "up_proj"], dtype=torch.bfloat16),
    "negative_alpha": dict(r=2, lora_alpha=-3, target_modules=["q_proj", "up_proj"]),
    "dora": dict(r=2, lora_alpha=3, use_dora=True, target_modules=ALL),
    "dora_patterns": dict(r=2, lora_alpha=3, use_dora=True, use_rslora=True, target_modules=ALL,
                          rank_pattern={"q_proj": 4}, alpha_pattern={"v_proj": 7}, modules_to_save=["norm"]),
}
MORA = {f"type_{t}": dict(r=2, target_modules=SHAPES, use_mora=True, mora_type=t) for t in (1, 2, 3, 4, 6)}
MORA |= {f"type_{t}_r5": dict(r=5, target_modules=["q_proj", "gate_proj", "down_proj"], use_mora=True, mora_type=t)
         for t in (1, 6)}
MORA |= {"rank_pattern": dict(r=2, target_modules=SHAPES, use_mora=True, mora_type=1, rank_pattern={"up_proj": 4}),
         "saved": dict(r=2, target_modules=["v_proj"], use_mora=True, mora_type=2,
                       modules_to_save=["norm", "input_layernorm", "post_attention_layernorm"]),
         "lora": dict(r=2, lora_alpha=3, target_modules=SHAPES),
         "lora_patterns": dict(r=2, lora_alpha=3, target_modules=SHAPES,
                               rank_pattern={"q_proj": 4, r"1\.mlp\.(up|gate)_proj": 1, "k_proj": 3},
                               alpha_pattern={"0.self_attn.q_proj": 5, "k_proj": 7, "down_proj": 9}),
         "layers": dict(r=3, target_modules=["q_proj", "up_proj"], use_mora=True, mora_type=3,
                        layers_to_transform=[1], layers_pattern=["layers"]),
         "regex": dict(r=3, target_modules=r".*\.1\..*(q|up)_proj", use_mora=True, mora_type=4),
         "rslora": dict(r=2, lora_alpha=3, use_rslora=True, target_modules=SHAPES)}


def randomise(model, generator, dtype):
    done = set()
    for name, p in model.named_parameters():
        trained = "lora_" in name or "modules_to_save" in name
        if not trained or id(p) in done:
            continue
        done.add(id(p))
        scale = 0.2 if "lora_" in name else 0.3
        p.data = (torch.randn(p.shape, generator=generator) * scale + ("norm" in name)).to(dtype)


def make(name, settings, tensors, metadata):
    dtype = settings.pop("dtype", torch.float32)
    generator = torch.Generator().manual_seed(len(tensors) + 1)
    base = transformers.LlamaForCausalLM.from_pretrained(BASE, torch_dtype=torch.float32)
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **settings))
    randomise(model, generator, dtype)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        config = json.loads((Path(folder) / "adapter_config.json").read_text())
        config["base_model_name_or_path"] = BASE.name
        metadata[name + ".config"] = json.dumps(config, sort_keys=True)
        with safe_open(Path(folder) / "adapter_model.safetensors", "pt") as file:
            for key in file.keys():
                tensors[f"{name}.tensors.{key}"] = file.get_tensor(key)
    with torch.no_grad():
        tensors[name + ".logits"] = model.double().eval()(IDS).logits[0].float()


def make_base():
    from make_goldens import llama_config, make_model

    # Odd sizes, so that MoRA has to pad; no head_dim, which the fork's transformers does not know.
    config = llama_config(vocab_size=37, hidden_size=24, intermediate_size=43, num_hidden_layers=2,
                          num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-5, rope_theta=10000.0,
                          tie_word_embeddings=False)
    make_model(BASE, config, seed=31)


def main():
    if not FORK:
        make_base()
    tensors, metadata = {"input_ids": IDS[0].to(torch.int32)}, {}
    for name, settings in (MORA if FORK else STOCK).items():
        make(name, dict(settings), tensors, metadata)
    metadata |= {"peft": peft.__version__, "transformers": transformers.__version__, "torch": torch.__version__}
    path = OUT / ("adapters_fork.safetensors" if FORK else "adapters_peft.safetensors")
    save_file(tensors, path, metadata)
    print(path.name, len(tensors), "tensors", path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
