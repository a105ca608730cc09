// The declarations of all fields of a run: name, default (the struct's), range and description,
// once each.
#include "mora/config/run_config.hpp"

#include <set>

#include "mora/core/error.hpp"

namespace mora {

namespace {

constexpr int64_t kMany = 1'000'000'000'000;  // steps, samples: above any run, safe to multiply
constexpr IntRange kCount{0, kMany};
constexpr IntRange kPositive{1, kMany};
constexpr IntRange kBatch{1, 1 << 20};
constexpr RealRange kNotNegative{.min = 0};
constexpr RealRange kAboveZero{.min = 0, .min_bound = Bound::open};
constexpr const char* kCacheDoc =
    "folder that keeps tokenised data for the next run; default: token-cache beside output_dir; "
    "\"\": none";
constexpr RealRange kBelowOne{.min = 0, .max = 1, .max_bound = Bound::open};

}  // namespace

void ModelConfig::fields(Fields& f) {
  f.field("path", path, "Hugging Face folder of the model to start from");
  f.field("config", config, "config.json of a model to initialise from scratch, instead of path");
  f.field("tokenizer", tokenizer,
          "tokenizer.json, SentencePiece model, or folder with one (tokenizer.json first); empty: "
          "model.path");
  f.choice("dtype", dtype, {"float32", "bfloat16", "auto"},
           "storage of frozen matrices; auto: as the model's files have them");
  f.check(path.empty() != config.empty(),
          path.empty() ? "give one of \"path\" (a model to start from) and \"config\" (a model to "
                         "initialise from scratch)"
                       : "\"path\" and \"config\" exclude each other; give only one");
}

void AdapterConfig::fields(Fields& f) {
  f.choice("method", method, {"full", "lora", "mora"},
           "what is trained: all weights, or low-rank (LoRA) or high-rank (MoRA) updates");
  f.when("method", method, {"lora", "mora"}, [&](Fields& g) {
    g.field("target_modules", target_modules, "linear layers that get an adapter",
            Presence::optional);
    g.field("r", r, {1, 65536}, "rank; MoRA's square matrix has as many parameters as LoRA's r");
    g.field("lora_dropout", lora_dropout, kBelowOne, "dropout on the adapter's input");
    g.field("modules_to_save", modules_to_save,
            "modules trained whole beside the adapter and saved with it: ends of paths, so that "
            "\"norm\" means all norms");
  });
  f.when("method", method, {"lora"}, [&](Fields& g) {
    g.field("lora_alpha", lora_alpha, kAboveZero, "the update is scaled by lora_alpha / r");
    g.field("use_rslora", use_rslora, "scale by lora_alpha / sqrt(r) instead");
    g.field("use_dora", use_dora, "DoRA: a trained magnitude for every row of the changed weight");
    g.choice("init_lora_weights", init_lora_weights, {"kaiming", "gaussian", "asymmetric"},
             "how lora_A starts: PEFT's default, its N(0, 1/r), or AsyLoRA's orthonormal rows");
  });
  f.when("method", method, {"mora"}, [&](Fields& g) {
    g.choice("operator", operation, {"sharing", "rotation", "decoupling", "truncation"},
             "how inputs are compressed for the square matrix and its outputs expanded");
    g.when("operator", operation, {"sharing"}, [&](Fields& h) {
      h.choice(
          "grouping", grouping,
          {"strided", "contiguous", "contiguous_strided", "strided_contiguous", "random"},
          "which features share a row, as input_output; types 1, 2, 3, 4 of the authors' code, or "
          "any features with any signs");
      h.when("grouping", grouping, {"random"}, [&](Fields& i) {
        i.field("grouping_seed", grouping_seed, {.min = 0}, "seed of the random groups");
      });
    });
    g.when("operator", operation, {"rotation"}, [&](Fields& h) {
      h.choice("cover", cover, {"used", "all"},
               "blocks of inputs that are changed where there are fewer outputs: as many, as the "
               "authors' code, or all");
    });
    g.field("scale", scale, kAboveZero, "the update is multiplied by this");
  });
}

void RestartConfig::fields(Fields& f, const AdapterConfig& adapter) {
  f.field("merge_steps", merge_steps, kCount,
          "steps between merges of the adapters into the weights: ReLoRA, ReMoRA; 0: never");
  f.choice("merge_at", merge_at, {"cycle_end", "after_first_step"},
           "after step k * merge_steps, as ReMoRA, or after the next one, as ReLoRA");
  f.choice("optimizer_reset", optimizer_reset, {"full", "random", "magnitude", "none"},
           "what becomes of the adapters' moments: zero and AdamW's step count begins again, most "
           "entries zero at random or by size, or nothing");
  f.when("optimizer_reset", optimizer_reset, {"random", "magnitude"}, [&](Fields& g) {
    g.field("pruning_ratio", pruning_ratio, kBelowOne, "share of the moments that become zero");
  });
  f.field("reset_steps", reset_steps, kCount,
          "steps between resets of the moments; 0: as merge_steps");
  f.when("adapter.method", adapter.method, {"mora"}, [&](Fields& g) {
    g.when("adapter.operator", adapter.operation, {"sharing"}, [&](Fields& h) {
      h.choice("regroup", regroup, {"none", "two", "four", "random"},
               "next grouping at a merge: the same, strided and contiguous in turn, all four in "
               "turn, or new random groups");
    });
  });
  f.check(enabled() || reset_steps == 0, "\"reset_steps\" means nothing without \"merge_steps\"");
  const std::string& grouping = adapter.grouping;
  const bool sharing = enabled() && adapter.method == "mora" && adapter.operation == "sharing";
  f.check(!sharing || regroup != "two" || grouping == "strided" || grouping == "contiguous",
          "\"regroup\" \"two\" takes turns between adapter.grouping \"strided\" and "
          "\"contiguous\"; begin with one of them");
  f.check(!sharing || regroup != "four" || grouping != "random",
          "\"regroup\" \"four\" does not know adapter.grouping \"random\"; begin with another");
}

void DataConfig::fields(Fields& f, const std::string& task) {
  f.when("task", task, {"uuid"}, [&](Fields& g) {
    g.field("pairs", pairs, kPositive, "number of generated pairs of keys and values");
    g.field("data_seed", data_seed, {.min = 0}, "seed of the generated pairs");
    g.field("file", file, "JSON Lines with \"key\" and \"value\", instead of generated pairs");
    g.choice("loss_on", loss_on, {"all", "value"}, "tokens that count in the loss");
  });
  f.when("task", task, {"pretrain", "continual"}, [&](Fields& g) {
    g.field("train_files", train_files, "documents: .jsonl, .json or .txt, plain or .gz",
            Presence::required);
    g.field("validation_files", validation_files, "documents to evaluate on");
    g.field("block_size", block_size, {2, 1 << 20}, "tokens of a training sequence");
    g.field("text_field", text_field, "key of a document's text");
    g.choice("txt_documents", txt_documents, {"file", "line"}, "what a document is in a .txt file");
    g.choice("add_bos", add_bos, {"auto", "always", "never"},
             "BOS in front of each document; auto: where the tokenizer adds one");
    g.choice(
        "document_attention", document_attention, {"across", "within"},
        "what tokens attend to: also the documents before theirs in the block, or only theirs");
    g.choice("bad_rows", bad_rows, {"error", "skip"},
             "rows without text, text that is not UTF-8: stop, or skip and count");
    g.field("cache_dir", cache_dir, kCacheDoc);
  });
  f.when("task", task, {"instruction", "math"}, [&](Fields& g) {
    g.field("train_files", train_files, "rows: .jsonl or .json (one array), plain or .gz",
            Presence::required);
    g.field("validation_files", validation_files, "rows to evaluate the loss on");
    g.choice("layout", layout,
             {"auto", "alpaca", "prompt_completion", "messages", "sharegpt", "metamath", "gsm8k",
              "math", "tokenized"},
             "what the keys of a row mean; auto: by the keys of the first row");
    g.field("columns", columns,
            "the layout's keys where the files have others: \"prompt=question\"");
    g.choice("prompt_format", prompt_format, {"chat", "tulu", "alpaca", "plain"},
             "how a row becomes text");
    g.when("prompt_format", prompt_format, {"chat"}, [&](Fields& h) {
      h.field("chat_template", chat_template,
              "a built-in template's name or a file; empty: the model's own");
    });
    g.choice("train_on", train_on, {"completion", "all"}, "tokens that count in the loss");
    g.field("max_length", max_length, {2, 1 << 20}, "longest training sequence in tokens");
    g.choice("too_long", too_long, {"truncate", "drop"}, "what becomes of longer ones");
    g.choice("bad_rows", bad_rows, {"error", "skip"},
             "rows that are not of the layout: stop, or skip and count");
    g.field("max_samples", max_samples, kCount, "rows to use, from the first; 0: all");
    g.field("packing", packing,
            "fill micro-batches of per_device_train_batch_size * max_length tokens with whole "
            "sequences, each attending to itself only");
    g.field("cache_dir", cache_dir, kCacheDoc);
  });
}

void TrainConfig::fields(Fields& f, const std::string& adapter_method,
                         const RestartConfig& restart) {
  f.field("learning_rate", learning_rate, kNotNegative, "peak learning rate");
  f.field("per_device_train_batch_size", per_device_train_batch_size, kBatch,
          "sequences of a forward and backward pass");
  f.field("gradient_accumulation_steps", gradient_accumulation_steps, kBatch,
          "passes of an optimizer step");
  f.field("max_steps", max_steps, {-1, kMany}, "optimizer steps; -1: by num_train_epochs");
  f.field("num_train_epochs", num_train_epochs, kAboveZero, "passes over the data");
  f.choice("lr_scheduler_type", lr_scheduler_type,
           {"constant", "constant_with_warmup", "linear", "cosine", "cosine_restarts"},
           "course of the learning rate; cosine_restarts: ReLoRA's jagged cosine");
  f.field("warmup_steps", warmup_steps, kCount, "steps of linear warm-up");
  f.when("lr_scheduler_type", lr_scheduler_type, {"cosine_restarts"}, [&](Fields& g) {
    g.field("cycle_length", cycle_length, kCount,
            "steps between restarts of the learning rate; 0: as restart.merge_steps");
    if (cycle_length == 0) cycle_length = restart.merge_steps;
    g.field("restart_warmup_steps", restart_warmup_steps, kCount,
            "steps of linear warm-up after each restart");
    g.field("min_lr_ratio", min_lr_ratio, {.min = 0, .max = 1, .min_bound = Bound::open},
            "where the cosine ends, as a share of learning_rate");
    g.field("adjust_step", adjust_step, kCount,
            "steps by which restarts come earlier: of a warm start");
    check_cycles(g);
  });
  f.when("adapter.method", adapter_method, {"lora"}, [&](Fields& g) {
    g.field("loraplus_lr_ratio", loraplus_lr_ratio, kAboveZero,
            "LoRA+: the learning rate of lora_B and of vectors is this times learning_rate");
  });
  f.field("weight_decay", weight_decay, kNotNegative, "decoupled weight decay of AdamW");
  f.field("adam_beta1", adam_beta1, kBelowOne, "decay of AdamW's first moment");
  f.field("adam_beta2", adam_beta2, kBelowOne, "decay of AdamW's second moment");
  f.field("adam_epsilon", adam_epsilon, kAboveZero, "AdamW's epsilon");
  f.field("max_grad_norm", max_grad_norm, kNotNegative, "clip gradients to this norm; 0: never");
  f.choice("recompute", recompute, {"none", "attention", "block"},
           "what the backward pass computes again instead of keeping it: nothing, each layer's "
           "attention with its projections, or each layer; the result is the same bit for bit");
  f.field("logging_steps", logging_steps, kPositive, "steps between lines of the log");
  f.field("save_steps", save_steps, kCount,
          "steps between checkpoints, with one after the last step; 0: none");
  f.field("save_at", save_at, kPositive, "further steps at which to save");
  f.field("save_total_limit", save_total_limit, kCount, "checkpoints to keep; 0: all");
  f.field("eval_steps", eval_steps, kCount, "steps between evaluations; 0: none while training");
}

void BenchmarkConfig::fields(Fields& f) {
  f.choice("name", name,
           {"mmlu", "pubmedqa", "medqa", "rct", "gsm8k", "math", "convfinqa", "fiqa", "fpb",
            "headline", "ner"},
           "which benchmark", Presence::required);
  f.field("data", data, "its official files: a folder or a file", Presence::required);
  f.field("label", label,
          "name of its result files and its rows in tables; empty: made of name, prompt and number "
          "of examples, as mmlu-5shot");
  f.check(
      label.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                              "._-") == std::string::npos &&
          !label.starts_with('.') && label != kTaskLabel,
      "\"label\" names files: letters, digits, \".\", \"_\" and \"-\", not a \".\" in front, and "
      "not \"task\", which is the task's own score");
  f.when("name", name, {"gsm8k"}, [&](Fields& g) {
    g.choice(
        "prompt", prompt, {"harness", "metamath", "alpaca"},
        "lm-evaluation-harness's prompt and answers, MetaMath's, or MetaMath's without \"Let's "
        "think step by step.\"");
  });
  f.field("num_fewshot", num_fewshot, {0, 64}, "solved examples in front of each question");
  f.when("name", name, {"gsm8k", "fiqa", "fpb", "headline", "ner"}, [&](Fields& g) {
    g.field("fewshot", fewshot, "where the solved examples come from, as data; empty: data itself");
  });
  f.field("num_samples", num_samples, kCount, "questions of each subject, from the first; 0: all");
  f.when("name", name, {"mmlu"}, [&](Fields& g) {
    g.field("subjects", subjects, "subjects to ask; empty: all that the folder has");
  });
  f.when("name", name, {"gsm8k", "math", "convfinqa", "ner"}, [&](Fields& g) {
    g.field("max_new_tokens", max_new_tokens, kCount,
            "longest generated answer in tokens; 0: the benchmark's own");
  });
}

// The conditions under which ReLoRA's schedule is defined.
void TrainConfig::check_cycles(Fields& f) const {
  f.check(cycle_length > 0,
          "\"lr_scheduler_type\" \"cosine_restarts\" needs \"cycle_length\", or "
          "restart.merge_steps");
  f.check(cycle_length == 0 || max_steps <= 0 || max_steps % cycle_length == 0,
          str("\"max_steps\" must be a multiple of \"cycle_length\", but ", max_steps,
              " is none of ", cycle_length));
  f.check(cycle_length == 0 || adjust_step + warmup_steps <= cycle_length,
          str("\"warmup_steps\" and \"adjust_step\" must be over before the first restart, but ",
              warmup_steps, " + ", adjust_step, " is more than \"cycle_length\" ", cycle_length));
}

std::string BenchmarkConfig::shown_label() const {
  if (!label.empty()) return label;
  std::string made = name;
  if (prompt != BenchmarkConfig().prompt) made += "-" + prompt;
  if (num_fewshot > 0) made += "-" + std::to_string(num_fewshot) + "shot";
  return made;
}

void EvalConfig::fields(Fields& f) {
  f.field("batch_size", batch_size, kBatch, "sequences evaluated together");
  f.field("max_new_tokens", max_new_tokens, {1, 1 << 20}, "longest generated answer");
  f.field("num_samples", num_samples, kCount, "samples to evaluate; 0: all");
  f.sections("benchmarks", benchmarks, "benchmarks that mora-eval runs");
  std::set<std::string> labels;
  for (const BenchmarkConfig& b : benchmarks) {
    const std::string label = b.shown_label();
    f.check(labels.insert(label).second,
            str("\"benchmarks\" has \"", label, "\" twice: give one of them another \"label\""));
  }
}

void EngineConfig::fields(Fields& f) {
  f.choice("matmul", matmul, {"auto", "onednn", "eigen"},
           "matrix products: \"auto\" by the fastest kernels, or by a library");
  f.field("threads", threads, {0, 4096}, "threads; 0: OpenMP's choice");
}

void RunConfig::fields(Fields& f) {
  f.choice("task", task, {"uuid", "pretrain", "continual", "instruction", "math"}, "what is learnt",
           Presence::required);
  f.field("output_dir", output_dir, "folder of the run's results", Presence::required);
  f.field("seed", seed, {.min = 0}, "seed of initial values, order of data and dropout");
  f.choice("dtype", train.dtype, {"fp32", "bf16"},
           "what training multiplies and keeps between operations; sums, norms, the loss, trained "
           "weights and the optimizer are fp32 with both, and so is evaluation");
  f.choice("device", engine.device, {"cpu", "cuda"},
           "what computes: the processor, or the first NVIDIA GPU that CUDA_VISIBLE_DEVICES shows");
  f.section("model", "the model", [&](Fields& g) { model.fields(g); });
  f.section("adapter", "the adapter", [&](Fields& g) { adapter.fields(g); });
  f.when("adapter.method", adapter.method, {"lora", "mora"}, [&](Fields& g) {
    g.section("restart", "merging the adapters and beginning anew",
              [&](Fields& h) { restart.fields(h, adapter); });
  });
  if (data.cache_dir == DataConfig::kDefaultCache && !output_dir.empty())
    data.cache_dir = output_dir.parent_path() / DataConfig::kDefaultCache;
  f.section("data", "the data", [&](Fields& g) { data.fields(g, task); });
  f.section("train", "training", [&](Fields& g) { train.fields(g, adapter.method, restart); });
  f.section("eval", "evaluation", [&](Fields& g) { eval.fields(g); });
  f.section("engine", "the machine", [&](Fields& g) { engine.fields(g); });
}

void parse_config(const std::filesystem::path& file, std::span<const std::string> overrides,
                  RunConfig& config) {
  parse_fields(file, overrides, [&](Fields& f) { config.fields(f); });
}

BenchmarkConfig parse_benchmark(std::span<const std::string> settings) {
  BenchmarkConfig benchmark;
  parse_fields({}, settings, [&](Fields& f) { benchmark.fields(f); });
  return benchmark;
}

std::string to_json_text(const RunConfig& config) {
  RunConfig copy = config;
  return print_fields([&](Fields& f) { copy.fields(f); });
}

std::string document_config() {
  RunConfig defaults;
  return document_fields([&](Fields& f) { defaults.fields(f); });
}

}  // namespace mora
