// mora-convert adapter: an adapter from one format to another.
#include <memory>

#include "apps/convert.hpp"
#include "apps/convert_gguf_lora.hpp"

namespace mora::apps {

std::function<int()> declare_adapter(CLI::App& command) {
  struct Options {
    std::string to, adapter, model, out;
  };
  const auto options = std::make_shared<Options>();
  command.add_option("--to", options->to, "gguf-lora: a LoRA in GGUF, for llama.cpp")
      ->required()
      ->check(CLI::IsMember({"gguf-lora"}));
  command.add_option("--adapter", options->adapter, "the adapter's folder")->required();
  command.add_option("--model", options->model, "the base model's folder")->required();
  command.add_option("--out", options->out, "the file to write")->required();
  return [options] { return adapter_to_gguf_lora(options->adapter, options->model, options->out); };
}

}  // namespace mora::apps
