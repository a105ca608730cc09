// What mora-generate does once its command line is read.
#pragma once

#include <optional>

#include "apps/session.hpp"
#include "mora/eval/sampling.hpp"

namespace mora::apps {

struct GenerateCommand {
  std::filesystem::path model, adapter, prompts, json;
  std::optional<std::string> prompt, system;
  std::string chat_template;  // a name or a file; empty: the model's own
  bool chat = false, raw = false;
  std::optional<int64_t> max_new_tokens, top_k;
  std::optional<double> temperature, top_p, repetition_penalty;
  int64_t seed = 0, batch_size = 8, context = 4096, threads = 0;
  std::string device = "cpu";
  std::vector<std::string> stops;
  std::string dtype = "float32";
};

// Settings for one run: the command line's, else generation_config.json's, else greedy and 256 new
// tokens.
struct GenerateSettings {
  Sampling sampling;
  int64_t max_new_tokens = 256;
  std::vector<int32_t> ends;
  std::string warning;  // one line, or empty
};
GenerateSettings generate_settings(const GenerateCommand& command, const Tokenizer& tokenizer,
                                   int64_t vocab_size);

// The tokens that end a text: those of generation_config.json or config.json, and the tokenizer's
// EOS.
std::vector<int32_t> end_tokens(const std::filesystem::path& model, const Tokenizer& tokenizer,
                                int64_t vocab_size);

// The exit code: 0, or 130 and 143 when a signal ended it.
int generate(const GenerateCommand& command);

}  // namespace mora::apps
