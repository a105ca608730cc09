// mora-continue-text MODEL_DIR PROMPT MAX_NEW_TOKENS: prints the prompt and its greedy continuation
// by the model of a Hugging Face folder. A tool for developers, on the library's public interface
// only.
#include <array>
#include <charconv>
#include <cstdio>
#include <string_view>

#include "mora/eval/generator.hpp"
#include "mora/text/tokenizer.hpp"

namespace {

int64_t positive_number(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 1) {
    mora::fail(mora::ErrorKind::usage, "MAX_NEW_TOKENS is \"", text,
               "\", expected a positive number");
  }
  return value;
}

std::string continued(const std::filesystem::path& folder, std::string_view prompt,
                      int64_t new_tokens) {
  const mora::LlamaConfig config = mora::read_llama_config(folder / "config.json");
  const auto tokenizer = mora::load_tokenizer(folder);
  mora::ParameterStore store;
  const mora::Llama model(config, store, mora::Training::frozen);
  store.allocate();
  mora::load_weights(store, config, folder);

  std::vector<int32_t> tokens;
  if (tokenizer->bos()) tokens.push_back(*tokenizer->bos());
  for (const int32_t token : tokenizer->encode(prompt)) tokens.push_back(token);
  if (tokens.empty()) mora::fail(mora::ErrorKind::usage, "PROMPT is empty");
  const auto backend = mora::make_cpu_backend(mora::MatmulProvider::automatic);
  mora::Workspace workspace;
  mora::Generator generator(model, store, {1, static_cast<int64_t>(tokens.size()) + new_tokens},
                            *backend, workspace);
  const auto ends = [&](size_t, std::span<const int32_t> made) {
    return made.back() == tokenizer->eos() || made.back() == tokenizer->bos();
  };
  const auto made =
      generator.generate(std::array{tokens}, {.max_new_tokens = new_tokens, .finished = ends});
  tokens.insert(tokens.end(), made[0].begin(), made[0].end());
  return tokenizer->decode(tokens);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc != 4) {
      mora::fail(mora::ErrorKind::usage,
                 "usage: mora-continue-text MODEL_DIR PROMPT MAX_NEW_TOKENS");
    }
    const std::string text = continued(argv[1], argv[2], positive_number(argv[3]));
    if (std::puts(text.c_str()) < 0 || std::fflush(stdout) != 0)
      mora::fail(mora::ErrorKind::io, "cannot write to standard output");
    return 0;
  } catch (const mora::Error& e) {
    std::fprintf(stderr, "mora-continue-text: %s\n", e.what());
    return e.exit_code();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "mora-continue-text: internal error: %s\n", e.what());
    return 1;
  }
}
