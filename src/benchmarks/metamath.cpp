#include "benchmarks/metamath.hpp"

#include "mora/data/prompt_formats.hpp"

namespace mora::benchmarks {

Question metamath_question(const BenchmarkConfig& config, std::string problem,
                           int64_t script_tokens) {
  static const PromptFormat kAlpaca = alpaca_format("");
  Conversation asked;
  const char* begun = config.prompt == "alpaca" ? "" : " Let's think step by step.";
  asked.messages = {{.role = std::string(kUser), .content = std::move(problem)},
                    {.role = std::string(kAssistant), .content = begun}};
  // The scripts also stop at the same words with a colon, which end the text at the same place.
  return {.group = {},
          .prompt = kAlpaca(asked).text,
          .choices = {},
          .answer = {},
          .stops = {"Question", "USER", "ASSISTANT", "Instruction", "Response"},
          .max_new_tokens = config.max_new_tokens == 0 ? script_tokens : config.max_new_tokens};
}

}  // namespace mora::benchmarks
