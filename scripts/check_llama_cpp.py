#!/usr/bin/env python3
"""Checks that llama.cpp loads what we export and computes the same: check_llama_cpp.py MODEL_DIR WORK_DIR

MODEL_DIR goes to GGUF as F32, F16, BF16 and Q8_0 (`mora-convert hf-to-gguf`), adapters that PEFT wrote go to
GGUF as LoRA (`adapter --to gguf-lora`). llama.cpp must continue a prompt as transformers and PEFT do: 64 greedy
tokens and the log probabilities of the five likeliest at each; the half types may be off by a rounding. It must
cut generated lines into as many tokens as our tokenizer does.

Needs the environment of tests/golden/README.md and the package xllamacpp (llama.cpp, built). MORA_BUILD names
the build folder (default: build). Exit code 1 when anything differs.
"""

import shutil
import sys
from pathlib import Path

import torch
import transformers
import xllamacpp
from check_peft import BUILD, run
from check_tokenizers import ours
from make_model_goldens import CONTINUATION, PROMPT, load
from make_tokenizer_goldens import line
from peft import LoraConfig, get_peft_model

LIKELIEST, LINES = 5, 300
TYPES = {"f32": 2e-3, "f16": 0.05, "bf16": 0.3, "q8_0": 0.5}  # largest difference of a log probability
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
ADAPTERS = {
    "LoRA": dict(r=4, lora_alpha=8, target_modules=ATTENTION),
    "rsLoRA, ranks and alphas of their own": dict(
        r=4, lora_alpha=6, use_rslora=True, target_modules=[*ATTENTION, "up_proj", "down_proj"],
        rank_pattern={"k_proj": 3, "up_proj": 7}, alpha_pattern={"q_proj": 11, "layers.1.self_attn.v_proj": 2}),
}


def server(model, adapter=None):
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(model)
    parameters.n_ctx, parameters.n_parallel, parameters.warmup, parameters.verbosity = 512, 1, False, -1
    parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    if adapter:
        info = xllamacpp.CommonAdapterLoraInfo()
        info.path, info.scale = str(adapter), 1.0
        parameters.lora_adapters = [info]
    return xllamacpp.Server(parameters)


def continued(llama, prompt, tokens):
    """For each new token: its id, and log probabilities by id of the likeliest."""
    answer = llama.handle_completions({"prompt": prompt, "n_predict": tokens, "temperature": 0, "n_probs": LIKELIEST,
                                       "ignore_eos": True, "cache_prompt": False})
    content = answer["choices"][0]["logprobs"]["content"]
    return [(c["id"], {t["id"]: t["logprob"] for t in c["top_logprobs"]}) for c in content]


def difference(model, prompt, found):
    """Leading greedy tokens that agree, and the largest difference of the log probabilities up to there."""
    model.eval()
    ids, worst = list(prompt), 0.0
    for count, (token, likeliest) in enumerate(found):
        with torch.no_grad():
            expected = model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
        worst = max([worst] + [abs(expected[i].item() - p) for i, p in likeliest.items()])
        if int(expected.argmax()) != token:
            return count, worst
        ids.append(token)
    return len(found), worst


def check(what, llama, model, prompt, bound, exact):
    equal, worst = difference(model, prompt, continued(llama, prompt, CONTINUATION))
    print(f"{what}: {equal} of {CONTINUATION} greedy tokens equal; log probabilities differ by at most {worst:.1e}",
          flush=True)
    return worst < bound and (equal == CONTINUATION or not exact)


def check_tokens(llama, model_dir):
    """The number of tokens alone is told; BOS in front may be one more everywhere."""
    spm = (model_dir / "tokenizer.model").exists()  # in whose texts "<s>" is no token, as it is in llama.cpp
    lines = [text for text in map(line, range(LINES)) if "\0" not in text and not (spm and "<" in text)]
    more = set()
    for text, ids in zip(lines, ours(model_dir, "encode", lines)):
        answer = llama.handle_completions({"prompt": text, "n_predict": 1, "cache_prompt": False})
        more.add(answer["usage"]["prompt_tokens"] - len(ids))
    print(f"{len(lines)} lines: llama.cpp has {sorted(more)} tokens more (one for BOS)", flush=True)
    return more in ({0}, {1})


def main():
    model_dir, work = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    work.mkdir(parents=True, exist_ok=True)
    model, ids = load(model_dir)
    prompt = ids[:PROMPT]
    fine = True
    for kind, bound in TYPES.items():
        file = work / f"{kind}.gguf"
        run(BUILD / "mora-convert", "hf-to-gguf", "--model", model_dir, "--out", file, "--type", kind)
        llama = server(file)
        fine &= check(kind, llama, model, prompt, bound, exact=kind == "f32")
        if kind == "f32":
            fine &= check_tokens(llama, model_dir)
        del llama
    for name, settings in ADAPTERS.items():
        torch.manual_seed(1)
        base = transformers.AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
        adapted = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **settings))
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.data += 0.02 * torch.randn(parameter.shape)
        shutil.rmtree(work / "adapter", ignore_errors=True)
        adapted.save_pretrained(work / "adapter")
        run(BUILD / "mora-convert", "adapter", "--to", "gguf-lora", "--adapter", work / "adapter", "--model", model_dir,
            "--out", work / "lora.gguf")
        llama = server(work / "f32.gguf", work / "lora.gguf")
        fine &= check(name, llama, adapted, prompt, TYPES["f32"], exact=True)
        del llama
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
