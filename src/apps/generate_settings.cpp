// Settings of generation: flags win over generation_config.json, whose meaning is transformers'.
#include <algorithm>

#include "apps/generate.hpp"
#include "io/json.hpp"
#include "mora/io/file.hpp"

namespace mora::apps {

namespace {

constexpr size_t kMaxBytes = size_t{1} << 20;
constexpr int64_t kDefaultTopK = 50;  // transformers', where a file asks for sampling

class ConfigFile {
 public:
  explicit ConfigFile(const std::filesystem::path& path) : name_(path.string()) {
    std::error_code ignored;
    if (std::filesystem::exists(path, ignored))
      json_ = parse_json(read_file(path, kMaxBytes), name_);
    if (!json_.is_object()) view().wrong_type("an object");
  }

  const std::string& name() const { return name_; }
  bool has(const char* key) const { return view().has(key); }
  JsonView at(const char* key) const { return view().at(key); }
  double number(const char* key, double otherwise) const {
    return has(key) ? at(key).number() : otherwise;
  }
  int64_t integer(const char* key, int64_t otherwise) const {
    return has(key) ? at(key).integer() : otherwise;
  }

 private:
  JsonView view() const { return {json_, name_}; }

  std::string name_;
  Json json_ = Json::object();
};

void add_ends(const JsonView& v, int64_t vocab_size, std::vector<int32_t>& ends) {
  const auto add = [&](const JsonView& id) {
    const int64_t token = id.integer();
    if (token < 0 || token >= vocab_size)
      id.wrong(str("a token from 0 to ", vocab_size - 1, ", the model's vocabulary"));
    ends.push_back(static_cast<int32_t>(token));
  };
  if (!v.json().is_array()) return add(v);
  for (const JsonView& id : v.items()) add(id);
}

void apply_flags(const GenerateCommand& c, Sampling& s) {
  s.seed = static_cast<uint64_t>(c.seed);
  if (c.repetition_penalty) s.repetition_penalty = *c.repetition_penalty;
  if (c.temperature) s.temperature = *c.temperature;
  if (c.top_k) s.top_k = *c.top_k;
  if (c.top_p) s.top_p = *c.top_p;
}

Sampling sampling(const GenerateCommand& c, const ConfigFile& file) {
  Sampling flags;
  apply_flags(c, flags);
  check_sampling(flags);
  const bool by_file = file.has("do_sample") && file.at("do_sample").boolean();
  const bool by_flags = c.temperature || c.top_k || c.top_p;
  Sampling s;
  s.repetition_penalty = file.number("repetition_penalty", 1);
  if (by_file) {
    s.temperature = file.number("temperature", 1);
    s.top_k = file.integer("top_k", kDefaultTopK);
    s.top_p = file.number("top_p", 1);
  } else if (by_flags) {
    s.temperature = 1;
  }
  apply_flags(c, s);
  try {
    check_sampling(s);
  } catch (const Error& e) {  // the flags are right
    fail(ErrorKind::data, file.name(), ": ", e.what());
  }
  return s;
}

// What transformers would do to a text and we do not, with the number that changes nothing.
struct Unapplied {
  const char* key;
  double neutral;
  bool only_sampled = false;
};
constexpr double kNone = -1;
constexpr Unapplied kUnapplied[] = {{"num_beams", 1},
                                    {"penalty_alpha", 0},
                                    {"dola_layers", kNone},
                                    {"guidance_scale", 1},
                                    {"encoder_repetition_penalty", 1},
                                    {"no_repeat_ngram_size", 0},
                                    {"encoder_no_repeat_ngram_size", 0},
                                    {"bad_words_ids", kNone},
                                    {"min_length", 0},
                                    {"min_new_tokens", 0},
                                    {"stop_strings", kNone},
                                    {"forced_bos_token_id", kNone},
                                    {"forced_eos_token_id", kNone},
                                    {"exponential_decay_length_penalty", kNone},
                                    {"suppress_tokens", kNone},
                                    {"begin_suppress_tokens", kNone},
                                    {"sequence_bias", kNone},
                                    {"token_healing", kNone},
                                    {"watermarking_config", kNone},
                                    {"min_p", 0, true},
                                    {"top_h", 1, true},
                                    {"typical_p", 1, true},
                                    {"epsilon_cutoff", 0, true},
                                    {"eta_cutoff", 0, true}};

bool does_nothing(const Json& value, double neutral) {
  if (value.is_number()) return value.get<double>() == neutral;
  return value == false || (value.is_structured() && value.empty());
}

std::string unapplied(const ConfigFile& file, bool sampled) {
  std::string keys;
  for (const Unapplied& u : kUnapplied) {
    if ((u.only_sampled && !sampled) || !file.has(u.key)) continue;
    if (!does_nothing(file.at(u.key).json(), u.neutral))
      keys += str(keys.empty() ? "" : ", ", u.key);
  }
  return keys.empty()
             ? ""
             : str(file.name(), ": not applied, so texts may differ from transformers': ", keys);
}

}  // namespace

GenerateSettings generate_settings(const GenerateCommand& command, const Tokenizer& tokenizer,
                                   int64_t vocab_size) {
  const ConfigFile file(command.model / "generation_config.json");
  GenerateSettings s;
  s.sampling = sampling(command, file);
  s.max_new_tokens = command.max_new_tokens ? *command.max_new_tokens
                                            : file.integer("max_new_tokens", s.max_new_tokens);
  if (s.max_new_tokens < 1) file.at("max_new_tokens").wrong("expected 1 or more");
  s.ends = end_tokens(command.model, tokenizer, vocab_size);
  s.warning = unapplied(file, s.sampling.temperature > 0);
  return s;
}

std::vector<int32_t> end_tokens(const std::filesystem::path& model, const Tokenizer& tokenizer,
                                int64_t vocab_size) {
  std::vector<int32_t> ends;
  for (const char* name : {"generation_config.json", "config.json"}) {
    const ConfigFile file(model / name);
    if (!file.has("eos_token_id")) continue;
    add_ends(file.at("eos_token_id"), vocab_size, ends);
    break;
  }
  if (tokenizer.eos()) ends.push_back(*tokenizer.eos());
  return ends;
}

}  // namespace mora::apps
