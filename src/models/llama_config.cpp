// config.json of a LLaMA, as transformers 4 and 5 write it. What would make another model than the
// one we compute is refused by key; everything else that we do not know changes nothing and is
// ignored.
#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>

#include "io/json.hpp"
#include "mora/io/file.hpp"
#include "mora/io/text.hpp"
#include "mora/models/llama.hpp"

namespace mora {

namespace fs = std::filesystem;

namespace {

// No model comes near these. They keep products of two sizes within an integer, and what is made
// before the memory is checked (names, one table of angles) small.
constexpr int64_t kMaxSize = int64_t{1} << 31, kMaxLayers = 1 << 16, kMaxHeadDim = 1 << 16;

struct Range {
  double low, high;
};
// Far beyond any model, and far from the limits of a float.
constexpr Range kTheta = {1, 1e30}, kFactor = {1, 1e6}, kFrequencyFactor = {1e-6, 1e6};

int64_t positive(const JsonView& json, std::string_view key, int64_t otherwise,
                 int64_t most = kMaxSize) {
  if (!json.has(key)) return otherwise;
  const int64_t value = json.at(key).integer();
  if (value < 1 || value > most) {
    json.at(key).wrong(str("is ", value, ", expected a number from 1 to ", most));
  }
  return value;
}

double required(const JsonView& json, std::string_view key, const Range& range) {
  const JsonView view = json.at(key);
  const double value = view.number();
  if (!(value >= range.low && value <= range.high)) {
    view.wrong(str("is ", value, ", expected a number from ", range.low, " to ", range.high));
  }
  return value;
}

double real(const JsonView& json, std::string_view key, double otherwise, const Range& range) {
  return json.has(key) ? required(json, key, range) : otherwise;
}

bool flag(const JsonView& json, std::string_view key) {
  return json.has(key) && json.at(key).boolean();
}

bool equal_but_for_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(
      a, b, [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

// -- what is refused --

void expect_text(const JsonView& json, std::string_view key, std::string_view supported) {
  if (!json.has(key)) return;
  const std::string text = json.at(key).string();
  if (text == supported) return;
  json.at(key).wrong(str("is \"", printable(text), "\"; only \"", supported, "\" is supported"));
}

void check_architecture(const JsonView& json) {
  expect_text(json, "model_type", "llama");
  if (!json.has("architectures")) return;
  for (const JsonView& item : json.at("architectures").items()) {
    if (equal_but_for_case(item.string(), "LlamaForCausalLM")) continue;
    item.wrong(
        str("is \"", printable(item.string()), "\"; only \"LlamaForCausalLM\" is supported"));
  }
}

// Of the weights, which their files also tell; a type here that we cannot read is a reason to stop
// before they are opened.
void check_dtype(const JsonView& json, std::string_view key) {
  if (!json.has(key)) return;
  const std::string name = json.at(key).string();
  for (const char* known : {"float32", "float16", "bfloat16"}) {
    if (name == known) return;
  }
  json.at(key).wrong(str("is \"", printable(name), "\", expected float32, float16 or bfloat16"));
}

// Refuses what would make another model than the one we compute.
void refuse_unsupported(const JsonView& json) {
  check_architecture(json);
  expect_text(json, "hidden_act", "silu");
  check_dtype(json, "torch_dtype");
  check_dtype(json, "dtype");
  for (const char* key : {"quantization_config", "compression_config"}) {
    if (json.has(key)) json.at(key).wrong("quantized weights are not supported");
  }
  if (json.has("sliding_window")) {
    json.at("sliding_window").wrong("attention in a window is not supported; only null");
  }
  if (json.has("attention_dropout") && json.at("attention_dropout").number() != 0) {
    json.at("attention_dropout").wrong("only 0 is supported");
  }
}

// -- RoPE --

struct RopeName {
  const char* text;
  RopeType type;
};
constexpr std::array<RopeName, 4> kRopeNames = {{{"default", RopeType::standard},
                                                 {"linear", RopeType::linear},
                                                 {"dynamic", RopeType::dynamic},
                                                 {"llama3", RopeType::llama3}}};

struct Rope {
  double theta = 10000.0;
  RopeScaling scaling;

  bool operator==(const Rope&) const = default;
};

// "rope_type", or "type" as it was called before.
RopeType read_rope_type(const JsonView& rope) {
  const bool has_new = rope.has("rope_type"), has_old = rope.has("type");
  if (!has_new && !has_old) return RopeType::standard;
  const JsonView view = rope.at(has_new ? "rope_type" : "type");
  const std::string name = view.string();
  if (has_new && has_old && rope.at("type").string() != name) {
    rope.at("type").wrong(str("contradicts rope_type \"", printable(name), "\""));
  }
  const auto* known =
      std::ranges::find_if(kRopeNames, [&](const RopeName& n) { return name == n.text; });
  if (known == kRopeNames.end()) {
    view.wrong(str("RoPE of type \"", printable(name),
                   "\" is not supported; only default, linear, dynamic and llama3"));
  }
  return known->type;
}

void refuse_partial_rotation(const JsonView& json) {
  constexpr const char* kKey = "partial_rotary_factor";
  if (json.has(kKey) && json.at(kKey).number() != 1) {
    json.at(kKey).wrong("only 1 is supported: all of a head is rotated");
  }
}

// transformers 5 falls back to max_position_embeddings, which is never what llama3 was made with.
int64_t read_original_length(const JsonView& json, const JsonView& rope) {
  constexpr const char* kKey = "original_max_position_embeddings";
  const JsonView& place = rope.has(kKey) || !json.has(kKey) ? rope : json;
  const int64_t length = positive(place, kKey, 0);
  if (length == 0) rope.wrong(str("key \"", kKey, "\" is missing"));
  if (json.has(kKey) && json.at(kKey).integer() != length) {
    json.at(kKey).wrong(str("contradicts the ", length, " of the RoPE parameters"));
  }
  return length;
}

RopeScaling read_scaling(const JsonView& json, const JsonView& rope) {
  RopeScaling s;
  s.type = read_rope_type(rope);
  if (s.type == RopeType::standard) {
    if (rope.has("factor") && rope.at("factor").number() != 1) {
      rope.at("factor").wrong("means nothing without a rope_type that scales");
    }
    return s;
  }
  s.factor = required(rope, "factor", kFactor);
  if (s.type != RopeType::llama3) return s;
  s.low_freq_factor = required(rope, "low_freq_factor", kFrequencyFactor);
  s.high_freq_factor = required(rope, "high_freq_factor", kFrequencyFactor);
  if (s.high_freq_factor <= s.low_freq_factor) {
    rope.at("high_freq_factor")
        .wrong(str("is ", s.high_freq_factor, ", expected more than low_freq_factor, ",
                   s.low_freq_factor));
  }
  s.original_max_position_embeddings = read_original_length(json, rope);
  return s;
}

// One of the two dictionaries, if it is there and says anything.
std::optional<Rope> read_rope_dictionary(const JsonView& json, std::string_view key, double theta) {
  if (!json.has(key)) return std::nullopt;
  const JsonView rope = json.at(key);
  if (!rope.json().is_object()) rope.wrong_type("an object or null");
  for (const auto& [name, value] : rope.members()) {
    if (value.json().is_object()) value.wrong("a RoPE for some layers only is not supported");
  }
  if (rope.json().empty()) return std::nullopt;
  refuse_partial_rotation(rope);
  Rope result{real(rope, "rope_theta", theta, kTheta), read_scaling(json, rope)};
  if (json.has("rope_theta") && result.theta != theta) {
    rope.at("rope_theta").wrong(str("contradicts the file's rope_theta, ", theta));
  }
  return result;
}

// transformers 4 has rope_theta and rope_scaling at the top, 5 has both in rope_parameters; 5 reads
// rope_scaling first. A file with both must mean one thing.
Rope read_rope(const JsonView& json) {
  refuse_partial_rotation(json);
  const Rope plain{real(json, "rope_theta", 10000.0, kTheta), {}};
  const auto scaling = read_rope_dictionary(json, "rope_scaling", plain.theta);
  const auto parameters = read_rope_dictionary(json, "rope_parameters", plain.theta);
  if (scaling && parameters && *scaling != *parameters) {
    json.at("rope_scaling").wrong("contradicts rope_parameters; keep the one that is right");
  }
  return scaling ? *scaling : parameters.value_or(plain);
}

Json scaling_json(const RopeScaling& s) {
  Json json;
  json["rope_type"] = std::ranges::find(kRopeNames, s.type, &RopeName::type)->text;
  if (s.type != RopeType::standard) json["factor"] = s.factor;
  if (s.type == RopeType::llama3) {
    json["low_freq_factor"] = s.low_freq_factor;
    json["high_freq_factor"] = s.high_freq_factor;
    json["original_max_position_embeddings"] = s.original_max_position_embeddings;
  }
  return json;
}

// -- token ids --

int64_t token_id(const JsonView& view, int64_t vocabulary) {
  const int64_t id = view.integer();
  if (id < 0 || id >= vocabulary) {
    view.wrong(str("is ", id, ", expected a token id below vocab_size, ", vocabulary));
  }
  return id;
}

// null means none, as in transformers; an absent key means the default, where there is such a
// token.
std::vector<int64_t> token_ids(const JsonView& json, const std::string& key,
                               const std::vector<int64_t>& otherwise, int64_t vocabulary) {
  if (!json.json().contains(key)) {
    return otherwise.empty() || otherwise.front() >= vocabulary ? std::vector<int64_t>{}
                                                                : otherwise;
  }
  if (!json.has(key)) return {};
  const JsonView value = json.at(key);
  if (!value.json().is_array()) return {token_id(value, vocabulary)};
  std::vector<int64_t> ids;
  for (const JsonView& item : value.items()) ids.push_back(token_id(item, vocabulary));
  if (ids.empty()) value.wrong("is an empty list, expected token ids or null");
  return ids;
}

std::optional<int64_t> one_token_id(const JsonView& json, const std::string& key,
                                    const std::vector<int64_t>& otherwise, int64_t vocabulary) {
  const auto ids = token_ids(json, key, otherwise, vocabulary);
  if (ids.size() > 1) json.at(key).wrong("is a list, expected one token id or null");
  return ids.empty() ? std::nullopt : std::optional(ids.front());
}

void read_token_ids(const JsonView& json, LlamaConfig& c) {
  c.bos_token_id = one_token_id(json, "bos_token_id", {1}, c.vocab_size);
  c.eos_token_ids = token_ids(json, "eos_token_id", {2}, c.vocab_size);
  const bool none = json.has("pad_token_id") && json.at("pad_token_id").json() == -1;
  if (!none) c.pad_token_id = one_token_id(json, "pad_token_id", {}, c.vocab_size);
}

Json or_null(const std::optional<int64_t>& id) {
  return id ? Json(*id) : Json(nullptr);
}

// -- sizes --

void read_heads(const JsonView& json, LlamaConfig& c) {
  c.num_attention_heads = positive(json, "num_attention_heads", c.num_attention_heads);
  c.num_key_value_heads = positive(json, "num_key_value_heads", c.num_attention_heads);
  if (c.num_attention_heads % c.num_key_value_heads != 0) {
    json.wrong(str("num_attention_heads is ", c.num_attention_heads,
                   ", which is no multiple of num_key_value_heads, ", c.num_key_value_heads));
  }
  if (!json.has("head_dim") && c.hidden_size % c.num_attention_heads != 0) {
    json.wrong(str("hidden_size is ", c.hidden_size,
                   ", which is no multiple of num_attention_heads, ", c.num_attention_heads,
                   ", and there is no head_dim"));
  }
  c.head_dim = positive(json, "head_dim", c.hidden_size / c.num_attention_heads, kMaxHeadDim);
  if (c.head_dim > kMaxHeadDim)
    json.wrong(str("head_dim is ", c.head_dim, ", expected at most ", kMaxHeadDim));
  if (c.head_dim % 2 != 0) json.wrong(str("head_dim is ", c.head_dim, "; RoPE needs an even one"));
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
  read_heads(json, c);
  c.max_position_embeddings = positive(json, "max_position_embeddings", c.max_position_embeddings);
  c.rms_norm_eps = real(json, "rms_norm_eps", c.rms_norm_eps, {1e-30, 1});
  const Rope rope = read_rope(json);
  c.rope_theta = rope.theta;
  c.rope_scaling = rope.scaling;
  if (rope.scaling.type == RopeType::dynamic && c.head_dim == 2) {
    json.wrong("head_dim is 2, for which dynamic RoPE is not defined");
  }
  c.initializer_range = real(json, "initializer_range", c.initializer_range, {0, 1});
  c.tie_word_embeddings = flag(json, "tie_word_embeddings");
  c.attention_bias = flag(json, "attention_bias");
  c.mlp_bias = flag(json, "mlp_bias");
  read_token_ids(json, c);
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
  const Json scaling = scaling_json(c.rope_scaling);
  json["rope_theta"] = c.rope_theta;
  json["rope_scaling"] = c.rope_scaling.type == RopeType::standard ? Json(nullptr) : scaling;
  json["rope_parameters"] = scaling;
  json["rope_parameters"]["rope_theta"] = c.rope_theta;
  json["tie_word_embeddings"] = c.tie_word_embeddings;
  json["attention_bias"] = c.attention_bias;
  json["mlp_bias"] = c.mlp_bias;
  json["bos_token_id"] = or_null(c.bos_token_id);
  json["eos_token_id"] = c.eos_token_ids;
  if (c.eos_token_ids.empty()) json["eos_token_id"] = nullptr;
  if (c.eos_token_ids.size() == 1) json["eos_token_id"] = c.eos_token_ids.front();
  json["pad_token_id"] = or_null(c.pad_token_id);
  json["torch_dtype"] = dtype == DType::bf16 ? "bfloat16" : "float32";
  return dump_json(json, 2) + "\n";
}

}  // namespace mora
