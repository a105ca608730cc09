// config.json of a LLaMA, in and out.
#include <algorithm>
#include <filesystem>

#include "io/json.hpp"
#include "mora/io/file.hpp"
#include "mora/io/safetensors.hpp"
#include "mora/io/text.hpp"
#include "mora/models/llama.hpp"

namespace mora {

namespace fs = std::filesystem;

namespace {

// No model comes near these. They keep products of two sizes within an integer, and what is made
// before the memory is checked (names, one table of angles) small.
constexpr int64_t kMaxSize = int64_t{1} << 31, kMaxLayers = 1 << 16, kMaxHeadDim = 1 << 16;

int64_t positive(const JsonView& json, std::string_view key, int64_t otherwise,
                 int64_t most = kMaxSize) {
  if (!json.has(key)) return otherwise;
  const int64_t value = json.at(key).integer();
  if (value < 1 || value > most) {
    json.at(key).wrong(str("is ", value, ", expected a number from 1 to ", most));
  }
  return value;
}

double positive_real(const JsonView& json, std::string_view key, double otherwise) {
  if (!json.has(key)) return otherwise;
  const double value = json.at(key).number();
  if (!(value > 0)) json.at(key).wrong("must be positive");
  return value;
}

// Refuses what would make another model than the one we compute.
void refuse_unsupported(const JsonView& json) {
  auto refuse = [&](std::string_view key, std::string_view why) { json.at(key).wrong(why); };
  if (json.has("model_type") && json.at("model_type").string() != "llama") {
    refuse("model_type", "only \"llama\" is supported");
  }
  if (json.has("hidden_act") && json.at("hidden_act").string() != "silu")
    refuse("hidden_act", "only \"silu\" is supported");
  for (const char* key : {"attention_bias", "mlp_bias"}) {
    if (json.has(key) && json.at(key).boolean()) refuse(key, "biases are not supported");
  }
  if (json.has("rope_scaling")) refuse("rope_scaling", "scaled RoPE is not supported; only null");
  if (json.has("attention_dropout") && json.at("attention_dropout").number() != 0) {
    refuse("attention_dropout", "only 0 is supported");
  }
}

// rope_theta stands at the top (transformers v4) or in rope_parameters (v5).
double read_rope_theta(const JsonView& json) {
  if (!json.has("rope_parameters")) return positive_real(json, "rope_theta", 10000.0);
  const JsonView rope = json.at("rope_parameters");
  if (rope.has("rope_type") && rope.at("rope_type").string() != "default") {
    rope.at("rope_type").wrong("scaled RoPE is not supported; only \"default\"");
  }
  return positive_real(rope, "rope_theta", 10000.0);
}

int64_t token_id(const JsonView& json, std::string_view key, int64_t otherwise) {
  if (!json.has(key)) return otherwise;
  const JsonView value = json.at(key);
  return value.json().is_array() && !value.items().empty() ? value.items().front().integer()
                                                           : value.integer();
}

}  // namespace

LlamaConfig read_llama_config(const fs::path& file) {
  const std::string text = read_file(file, size_t{16} << 20);
  const Json document = parse_json(text, file.string());
  const JsonView json(document, file.string());
  if (!document.is_object()) json.wrong_type("an object");
  refuse_unsupported(json);
  LlamaConfig c;
  c.vocab_size = positive(json, "vocab_size", c.vocab_size);
  c.hidden_size = positive(json, "hidden_size", c.hidden_size);
  c.intermediate_size = positive(json, "intermediate_size", c.intermediate_size);
  c.num_hidden_layers = positive(json, "num_hidden_layers", c.num_hidden_layers, kMaxLayers);
  c.num_attention_heads = positive(json, "num_attention_heads", c.num_attention_heads);
  c.num_key_value_heads = positive(json, "num_key_value_heads", c.num_attention_heads);
  c.head_dim = positive(json, "head_dim",
                        std::max<int64_t>(c.hidden_size / c.num_attention_heads, 1), kMaxHeadDim);
  if (c.head_dim > kMaxHeadDim)
    json.wrong(str("head_dim is ", c.head_dim, ", expected at most ", kMaxHeadDim));
  c.max_position_embeddings = positive(json, "max_position_embeddings", c.max_position_embeddings);
  c.rms_norm_eps = positive_real(json, "rms_norm_eps", c.rms_norm_eps);
  c.rope_theta = read_rope_theta(json);
  c.initializer_range = positive_real(json, "initializer_range", c.initializer_range);
  if (json.has("tie_word_embeddings"))
    c.tie_word_embeddings = json.at("tie_word_embeddings").boolean();
  c.bos_token_id = token_id(json, "bos_token_id", c.bos_token_id);
  c.eos_token_id = token_id(json, "eos_token_id", c.eos_token_id);
  if (c.num_attention_heads % c.num_key_value_heads != 0) {
    json.wrong(str(c.num_attention_heads, " attention heads cannot share ", c.num_key_value_heads,
                   " key-value heads evenly"));
  }
  if (!json.has("head_dim") && c.hidden_size % c.num_attention_heads != 0) {
    json.wrong("hidden_size is not a multiple of num_attention_heads, and there is no head_dim");
  }
  if (c.head_dim % 2 != 0) json.wrong(str("head_dim is ", c.head_dim, "; RoPE needs an even one"));
  return c;
}

std::string to_json_text(const LlamaConfig& c, DType dtype) {
  Json json;
  json["architectures"] = {"LlamaForCausalLM"};
  json["model_type"] = "llama";
  json["vocab_size"] = c.vocab_size;
  json["hidden_size"] = c.hidden_size;
  json["intermediate_size"] = c.intermediate_size;
  json["num_hidden_layers"] = c.num_hidden_layers;
  json["num_attention_heads"] = c.num_attention_heads;
  json["num_key_value_heads"] = c.num_key_value_heads;
  json["head_dim"] = c.head_dim;
  json["hidden_act"] = "silu";
  json["max_position_embeddings"] = c.max_position_embeddings;
  json["initializer_range"] = c.initializer_range;
  json["rms_norm_eps"] = c.rms_norm_eps;
  json["rope_theta"] = c.rope_theta;
  json["rope_scaling"] = nullptr;
  json["tie_word_embeddings"] = c.tie_word_embeddings;
  json["attention_bias"] = false;
  json["mlp_bias"] = false;
  json["bos_token_id"] = c.bos_token_id;
  json["eos_token_id"] = c.eos_token_id;
  json["torch_dtype"] = dtype == DType::bf16 ? "bfloat16" : "float32";
  return dump_json(json, 2) + "\n";
}

}  // namespace mora
