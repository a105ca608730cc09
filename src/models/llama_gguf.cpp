// LLaMA's names, keys and shapes in GGUF.
#include "mora/models/llama_gguf.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <map>
#include <set>

#include "mora/io/tensor_rows.hpp"
#include "mora/io/text.hpp"

namespace mora {

namespace {

constexpr int64_t kMaxSize = int64_t{1} << 31, kMaxHeadDim = 1 << 16;

// Keys of the model that are used, or say nothing about what it computes.
constexpr std::array<std::string_view, 21> kKnown = {"vocab_size",
                                                     "context_length",
                                                     "embedding_length",
                                                     "block_count",
                                                     "feed_forward_length",
                                                     "attention.head_count",
                                                     "attention.head_count_kv",
                                                     "attention.layer_norm_rms_epsilon",
                                                     "attention.key_length",
                                                     "attention.value_length",
                                                     "attention.causal",
                                                     "attention.sliding_window",
                                                     "rope.dimension_count",
                                                     "rope.freq_base",
                                                     "rope.scale_linear",
                                                     "rope.scaling.type",
                                                     "rope.scaling.factor",
                                                     "rope.scaling.original_context_length",
                                                     "rope.scaling.finetuned",
                                                     "expert_count",
                                                     "expert_used_count"};

constexpr const char* kRopeFreqs = "rope_freqs.weight";

std::string key(std::string_view name) {
  return str("llama.", name);
}

// The double whose decimal notation is the float's: 1e-5 again, not 9.99999974e-06.
double shortest(double value) {
  std::array<char, 64> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), static_cast<float>(value));
  double result = value;
  std::from_chars(text.data(), end.ptr, result);
  return result;
}

int64_t size_at(const GgufFile& file, const std::string& name, int64_t most = kMaxSize) {
  const int64_t value = file.integer(name);
  if (value < 1 || value > most) {
    file.wrong(name, str("is ", value, ", expected a number from 1 to ", most));
  }
  return value;
}

int64_t size_or(const GgufFile& file, const std::string& name, int64_t otherwise,
                int64_t most = kMaxSize) {
  return file.has(name) ? size_at(file, name, most) : otherwise;
}

double positive(const GgufFile& file, const std::string& name) {
  const double value = file.real(name);
  if (!(value > 0)) file.wrong(name, str("is ", value, ", expected a positive number"));
  return shortest(value);
}

void refuse_other_models(const GgufFile& file) {
  const std::string architecture(file.text("general.architecture"));
  if (architecture != "llama") {
    file.wrong("general.architecture",
               str("is \"", printable(architecture), "\"; only \"llama\" is supported"));
  }
  for (const auto& [name, value] : file.metadata()) {
    if (name.starts_with("llama.") &&
        std::ranges::find(kKnown, std::string_view(name).substr(6)) == kKnown.end()) {
      file.wrong(name, "is not known to this program, and may make it another model");
    }
  }
  for (const char* name : {"expert_count", "expert_used_count", "attention.sliding_window"}) {
    if (file.has(key(name)) && file.integer(key(name)) != 0) {
      file.wrong(key(name), "is not 0; such models are not supported");
    }
  }
  if (file.has(key("attention.causal")) && !file.boolean(key("attention.causal"))) {
    file.wrong(key("attention.causal"), "is false; only causal models are supported");
  }
}

int64_t read_head_dim(const GgufFile& file, const LlamaConfig& c) {
  const std::string length = key("attention.key_length");
  if (!file.has(length) && c.hidden_size % c.num_attention_heads != 0) {
    file.wrong(length, str("is missing, and ", c.hidden_size, " is no multiple of ",
                           c.num_attention_heads, " heads"));
  }
  const int64_t dim = size_or(file, length, c.hidden_size / c.num_attention_heads, kMaxHeadDim);
  for (const char* name : {"attention.value_length", "rope.dimension_count"}) {
    if (file.has(key(name)) && file.integer(key(name)) != dim) {
      file.wrong(key(name),
                 str("is ", file.integer(key(name)), ", expected the head's size ", dim));
    }
  }
  if (dim < 2 || dim % 2 != 0 || dim > kMaxHeadDim) {
    file.wrong(length,
               str("gives heads of ", dim, ", expected an even number up to ", kMaxHeadDim));
  }
  return dim;
}

void read_sizes(const GgufFile& file, LlamaConfig& c) {
  c.hidden_size = size_at(file, key("embedding_length"));
  c.intermediate_size = size_at(file, key("feed_forward_length"));
  // Every layer has tensors, so a count beyond theirs is refused before anything is made of it.
  c.num_hidden_layers =
      size_at(file, key("block_count"), static_cast<int64_t>(file.tensors().size()));
  c.num_attention_heads = size_at(file, key("attention.head_count"));
  c.num_key_value_heads = size_or(file, key("attention.head_count_kv"), c.num_attention_heads);
  if (c.num_attention_heads % c.num_key_value_heads != 0) {
    file.wrong(key("attention.head_count_kv"),
               str("is ", c.num_key_value_heads, ", which does not divide ", c.num_attention_heads,
                   " heads"));
  }
  c.head_dim = read_head_dim(file, c);
  c.max_position_embeddings = size_at(file, key("context_length"));
  c.rms_norm_eps = positive(file, key("attention.layer_norm_rms_epsilon"));
  c.rope_theta = file.has(key("rope.freq_base")) ? positive(file, key("rope.freq_base")) : 10000.0;
  const auto embedding = file.tensors().find("token_embd.weight");
  const int64_t rows = embedding == file.tensors().end() || embedding->second.shape.empty()
                           ? 0
                           : embedding->second.shape.front();
  c.vocab_size = size_or(file, key("vocab_size"), std::max<int64_t>(rows, 1));
  c.tie_word_embeddings = !file.contains("output.weight");
}

double read_linear_factor(const GgufFile& file) {
  const std::string type = key("rope.scaling.type");
  const std::string name = file.has(type) ? std::string(file.text(type)) : "linear";
  if (name != "none" && name != "linear") {
    file.wrong(type, str("is \"", printable(name), "\"; only none and linear are supported"));
  }
  const std::string factor = key("rope.scaling.factor"), old = key("rope.scale_linear");
  const std::string& used = file.has(factor) || !file.has(old) ? factor : old;
  if (name == "none" || !file.has(used)) return 1;
  const double value = positive(file, used);
  if (value < 1) file.wrong(used, str("is ", value, ", expected at least 1"));
  return value;
}

void read_llama3(const GgufFile& file, LlamaGguf& model) {
  if (!file.contains(kRopeFreqs)) return;
  const auto half = static_cast<size_t>(model.config.head_dim / 2);
  const TensorRows rows = rows_of(file, kRopeFreqs);
  if (rows.rows != 1 || rows.row != static_cast<int64_t>(half)) {
    fail(ErrorKind::data, rows.name, " is ", file.tensor(kRopeFreqs), ", expected [", half, "]");
  }
  std::vector<float> divisors(half);
  rows.read(0, divisors);
  if (std::ranges::all_of(divisors, [](float d) { return d == 1.0f; })) return;
  const std::string original = key("rope.scaling.original_context_length");
  std::vector<double> originals = {8192};
  if (file.has(original))
    originals.insert(originals.begin(), static_cast<double>(size_at(file, original)));
  model.llama3 = find_llama3(divisors, model.config.rope_theta, originals);
  if (!model.llama3) {
    fail(ErrorKind::data, rows.name,
         " has RoPE factors that are those of no llama3 scaling; such models are not supported");
  }
  if (model.linear_factor != 1) {
    fail(ErrorKind::data, rows.name, " stands beside linear RoPE scaling; only one is supported");
  }
}

std::optional<int64_t> token_id(const GgufFile& file, const char* name, int64_t vocabulary) {
  const std::string full = str("tokenizer.ggml.", name);
  if (!file.has(full)) return std::nullopt;
  const int64_t id = file.integer(full);
  if (id < 0 || id >= vocabulary) {
    file.wrong(full, str("is ", id, ", expected an id below ", vocabulary));
  }
  return id;
}

void check_tensors(const GgufFile& file, const LlamaConfig& config) {
  std::string problems;
  std::set<std::string, std::less<>> expected = {kRopeFreqs};
  for (const LlamaGgufTensor& t : llama_gguf_tensors(config)) {
    expected.insert(t.gguf);
    if (!file.contains(t.gguf)) {
      problems += str("; missing ", t.gguf);
    } else if (file.tensor(t.gguf).shape != t.shape) {
      problems += str("; ", t.gguf, " is ", file.tensor(t.gguf), ", expected ",
                      Shape(std::span<const int64_t>(t.shape)));
    } else {
      file.require_readable(t.gguf);
    }
  }
  for (const auto& [name, tensor] : file.tensors()) {
    if (!expected.contains(name)) problems += str("; unexpected ", printable(name), " ", tensor);
  }
  if (problems.empty()) return;
  fail(ErrorKind::data, printable(file.path().string()),
       ": the tensors are not those of the model that the metadata describe",
       printable(problems, 2000));
}

}  // namespace

std::vector<LlamaGgufTensor> llama_gguf_tensors(const LlamaConfig& c) {
  const int64_t d = c.hidden_size, f = c.intermediate_size;
  const int64_t q = c.num_attention_heads * c.head_dim, kv = c.num_key_value_heads * c.head_dim;
  std::vector<LlamaGgufTensor> list = {
      {"model.embed_tokens.weight", "token_embd.weight", {c.vocab_size, d}}};
  for (int64_t i = 0; i < c.num_hidden_layers; ++i) {
    const std::string hf = str("model.layers.", i, "."), gguf = str("blk.", i, ".");
    auto add = [&](const char* ours, const char* theirs, std::vector<int64_t> shape,
                   bool rotated = false) {
      list.push_back({hf + ours + ".weight", gguf + theirs + ".weight", std::move(shape), rotated});
    };
    add("input_layernorm", "attn_norm", {d});
    add("self_attn.q_proj", "attn_q", {q, d}, true);
    add("self_attn.k_proj", "attn_k", {kv, d}, true);
    add("self_attn.v_proj", "attn_v", {kv, d});
    add("self_attn.o_proj", "attn_output", {d, q});
    add("post_attention_layernorm", "ffn_norm", {d});
    add("mlp.gate_proj", "ffn_gate", {f, d});
    add("mlp.up_proj", "ffn_up", {f, d});
    add("mlp.down_proj", "ffn_down", {d, f});
  }
  list.push_back({"model.norm.weight", "output_norm.weight", {d}});
  if (!c.tie_word_embeddings)
    list.push_back({"lm_head.weight", "output.weight", {c.vocab_size, d}});
  return list;
}

int64_t gguf_row(int64_t row, int64_t head_dim) {
  const int64_t head = row / head_dim, at = row % head_dim, half = head_dim / 2;
  return head * head_dim + at % half * 2 + at / half;
}

int64_t half_split_row(int64_t row, int64_t head_dim) {
  const int64_t head = row / head_dim, at = row % head_dim;
  return head * head_dim + at % 2 * (head_dim / 2) + at / 2;
}

LlamaGguf read_llama_gguf(const GgufFile& file) {
  refuse_other_models(file);
  LlamaGguf model;
  read_sizes(file, model.config);
  check_tensors(file, model.config);
  model.linear_factor = read_linear_factor(file);
  read_llama3(file, model);
  model.bos = token_id(file, "bos_token_id", model.config.vocab_size);
  model.eos = token_id(file, "eos_token_id", model.config.vocab_size);
  model.pad = token_id(file, "padding_token_id", model.config.vocab_size);
  return model;
}

void add_llama_keys(GgufMetadata& metadata, const LlamaGguf& model) {
  const LlamaConfig& c = model.config;
  auto add = [&](const char* name, int64_t value) {
    metadata.add_u32(key(name), static_cast<uint32_t>(value));
  };
  metadata.add_text("general.architecture", "llama");
  metadata.add_text("general.type", "model");
  add("vocab_size", c.vocab_size);
  add("context_length", c.max_position_embeddings);
  add("embedding_length", c.hidden_size);
  add("block_count", c.num_hidden_layers);
  add("feed_forward_length", c.intermediate_size);
  add("attention.head_count", c.num_attention_heads);
  add("attention.head_count_kv", c.num_key_value_heads);
  add("attention.key_length", c.head_dim);
  add("attention.value_length", c.head_dim);
  add("rope.dimension_count", c.head_dim);
  metadata.add_f32(key("attention.layer_norm_rms_epsilon"), static_cast<float>(c.rms_norm_eps));
  metadata.add_f32(key("rope.freq_base"), static_cast<float>(c.rope_theta));
  if (model.linear_factor != 1) {
    metadata.add_text(key("rope.scaling.type"), "linear");
    metadata.add_f32(key("rope.scaling.factor"), static_cast<float>(model.linear_factor));
  }
}

}  // namespace mora
