// RunConfig: everything that a run can be told. Names follow Hugging Face where it has one.
//
// The structs hold defaults; run_config.cpp declares each field's range and description once.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "mora/config/field.hpp"

namespace mora {

struct ModelConfig {
  std::filesystem::path path;       // Hugging Face folder to start from
  std::filesystem::path config;     // or: config.json of a model to initialise from scratch
  std::filesystem::path tokenizer;  // a file or a folder; empty: the folder `path`
  std::string dtype = "auto";

  void fields(Fields& f);
};

inline constexpr const char* kAllLinear = "all-linear";

// What an adapter's folder says beyond a run's configuration (docs/adapters.md): which modules are
// meant and how each is adapted, in PEFT's words. Patterns are Python's regular expressions. A
// run's own configuration has none of it.
struct AdapterFile {
  // How patterns are matched: as PEFT does today, or as the MoRA authors' fork of PEFT 0.9.0.
  enum class Rules { peft, authors };

  std::filesystem::path folder;  // where it was read
  std::string base_model;        // base_model_name_or_path
  Rules rules = Rules::peft;
  std::string target_pattern;  // of whole paths, or kAllLinear; not target_modules
  std::vector<std::string> exclude_modules;
  std::string exclude_pattern;               // of whole paths
  std::vector<int64_t> layers_to_transform;  // of target_modules; empty: all
  std::vector<std::string> layers_pattern;   // what stands before a layer's number; empty: any
  std::vector<std::pair<std::string, int64_t>> rank_pattern;  // the first that matches counts
  std::vector<std::pair<std::string, double>> alpha_pattern;

  bool operator==(const AdapterFile&) const = default;
};

struct AdapterConfig {
  std::string method = "lora";
  std::vector<std::string> target_modules = {"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                             "gate_proj", "up_proj", "down_proj"};
  int64_t r = 8;
  double lora_alpha = 16;
  bool use_rslora = false;
  bool use_dora = false;
  std::string init_lora_weights = "kaiming";
  std::string operation = "sharing";  // key "operator"
  std::string grouping = "strided";
  int64_t grouping_seed = 0;  // of grouping "random"
  std::string cover = "used";
  double scale = 1;
  double lora_dropout = 0;
  std::vector<std::string> modules_to_save;  // trained whole, or replaced by what a file has
  AdapterFile file;                          // empty unless read_adapter_config made this

  void fields(Fields& f);
};

// Merging the adapters into the weights every so often, and beginning them anew: ReLoRA and ReMoRA
// (docs/methods.md).
struct RestartConfig {
  int64_t merge_steps = 0;  // 0: never
  std::string merge_at = "cycle_end";
  std::string optimizer_reset = "full";
  double pruning_ratio = 0.999;
  int64_t reset_steps = 0;  // 0: as merge_steps
  std::string regroup = "two";

  bool enabled() const { return merge_steps > 0; }
  void fields(Fields& f, const AdapterConfig& adapter);
};

struct DataConfig {
  int64_t pairs = 64;
  int64_t data_seed = 0;
  std::filesystem::path file;
  std::string loss_on = "all";
  std::vector<std::filesystem::path> train_files;
  std::vector<std::filesystem::path> validation_files;
  int64_t block_size = 256;
  std::string text_field = "text";
  std::string layout = "auto";
  std::vector<std::string> columns;
  std::string prompt_format = "chat";
  std::string chat_template;
  std::string train_on = "completion";
  int64_t max_length = 2048;
  std::string too_long = "truncate";
  std::string bad_rows = "error";
  int64_t max_samples = 0;
  bool packing = false;
  std::string txt_documents = "file", add_bos = "auto", document_attention = "across";
  static constexpr const char* kDefaultCache = "token-cache";  // fields(): beside output_dir
  std::filesystem::path cache_dir = kDefaultCache;

  void fields(Fields& f, const std::string& task);
};

struct TrainConfig {
  std::string dtype = "fp32";  // "dtype" of the run, beside its sections
  bool in_bf16() const { return dtype == "bf16"; }
  double learning_rate = 1e-3;
  int64_t per_device_train_batch_size = 16;
  int64_t gradient_accumulation_steps = 1;
  int64_t max_steps = -1;
  double num_train_epochs = 1.0;
  std::string lr_scheduler_type = "linear";
  int64_t warmup_steps = 0;
  int64_t cycle_length = 0;  // 0: RestartConfig::merge_steps
  int64_t restart_warmup_steps = 50;
  double min_lr_ratio = 0.1;
  int64_t adjust_step = 0;
  double loraplus_lr_ratio = 1;
  double weight_decay = 0;
  double adam_beta1 = 0.9;
  double adam_beta2 = 0.999;
  double adam_epsilon = 1e-8;
  double max_grad_norm = 1.0;
  std::string recompute = "none";
  int64_t logging_steps = 10;
  int64_t save_steps = 0;
  std::vector<int64_t> save_at;
  int64_t save_total_limit = 0;
  int64_t eval_steps = 0;

  void fields(Fields& f, const std::string& adapter_method, const RestartConfig& restart);

 private:
  void check_cycles(Fields& f) const;
};

// The label of a task's own score among evaluations.
inline constexpr const char* kTaskLabel = "task";

// One benchmark that mora-eval runs (docs/evaluation.md).
struct BenchmarkConfig {
  std::string name;            // required
  std::filesystem::path data;  // required: folder or file in the official format
  std::string label;
  std::string prompt = "harness";
  int64_t num_fewshot = 0;
  std::filesystem::path fewshot;  // empty: data
  int64_t num_samples = 0;
  std::vector<std::string> subjects;
  int64_t max_new_tokens = 0;

  void fields(Fields& f);
  std::string shown_label() const;  // or one made of name, prompt and number of examples
};

struct EvalConfig {
  int64_t batch_size = 64;
  int64_t max_new_tokens = 64;
  int64_t num_samples = 0;
  std::vector<BenchmarkConfig> benchmarks;

  void fields(Fields& f);
};

struct EngineConfig {
  std::string device = "cpu";  // "device" of the run, beside its sections
  std::string matmul = "auto";
  int64_t threads = 0;

  void fields(Fields& f);
};

struct RunConfig {
  std::string task;                  // required
  std::filesystem::path output_dir;  // required
  int64_t seed = 42;
  ModelConfig model;
  AdapterConfig adapter;
  RestartConfig restart;
  DataConfig data;
  TrainConfig train;
  EvalConfig eval;
  EngineConfig engine;

  void fields(Fields& f);
};

// See parse_fields: all problems of the file and the overrides in one Error(usage), one a line.
void parse_config(const std::filesystem::path& file, std::span<const std::string> overrides,
                  RunConfig& config);

// A benchmark by what a command line says of it, "name=value" each, as above.
BenchmarkConfig parse_benchmark(std::span<const std::string> settings);

// The resolved configuration; parse_config of this text gives the same configuration.
std::string to_json_text(const RunConfig& config);

// Markdown for the reference page of the documentation.
std::string document_config();

}  // namespace mora
