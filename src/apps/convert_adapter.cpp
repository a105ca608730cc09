// mora-convert adapter: an adapter from one format to another.
#include <cmath>
#include <cstdio>
#include <memory>

#include "apps/convert.hpp"
#include "apps/convert_gguf_lora.hpp"
#include "mora/adapters/lora_export.hpp"
#include "mora/io/folder_draft.hpp"
#include "mora/io/text.hpp"

namespace mora::apps {

namespace {

struct Options {
  std::string to, adapter, model, out;
  int64_t rank = 0;
};

void print_errors(const std::vector<LoraLayer>& layers) {
  double norm = 0, error = 0;
  for (const LoraLayer& layer : layers) {
    std::printf("%s: rank %lld, relative error %.3g\n", printable(layer.path).c_str(),
                static_cast<long long>(layer.rank), layer.norm > 0 ? layer.error / layer.norm : 0);
    norm = std::hypot(norm, layer.norm);
    error = std::hypot(error, layer.error);
  }
  std::printf("all layers: relative error %.3g (Frobenius norm of what the rank leaves out)\n",
              norm > 0 ? error / norm : 0);
}

int adapter_to_lora(const Options& options) {
  FolderDraft folder(options.out);
  const AdapterFolder adapter(options.adapter, options.model);
  const std::vector<LoraLayer> layers = lora_layers(adapter, options.rank);
  save_lora(folder.path(), adapter, options.adapter, layers);
  folder.commit();
  if (options.rank > 0) print_errors(layers);
  std::printf("%s: a LoRA of %zu layers%s\n", options.out.c_str(), layers.size(),
              options.rank > 0 ? "" : ", the same update exactly");
  return 0;
}

int adapter_to_gguf(const Options& options) {
  if (options.model.empty())
    fail(ErrorKind::usage, "--to gguf-lora needs --model, the base model's folder");
  if (options.rank > 0)
    fail(ErrorKind::usage, "--rank is for --to lora; convert the LoRA that it makes");
  return adapter_to_gguf_lora(options.adapter, options.model, options.out);
}

}  // namespace

std::function<int()> declare_adapter(CLI::App& command) {
  const auto options = std::make_shared<Options>();
  command
      .add_option("--to", options->to,
                  "lora: a PEFT folder of plain LoRA; gguf-lora: a LoRA in GGUF, for llama.cpp")
      ->required()
      ->check(CLI::IsMember({"lora", "gguf-lora"}));
  command.add_option("--adapter", options->adapter, "the adapter's folder")->required();
  command.add_option("--model", options->model,
                     "the base model's folder; needed for gguf-lora, and for MoRA unless the "
                     "adapter's base_model_name_or_path is one");
  command.add_option("--out", options->out, "what to make: the new folder, or the GGUF file")
      ->required();
  command
      .add_option("--rank", options->rank,
                  "for lora: the nearest update of this rank instead of the same update")
      ->check(CLI::Range(int64_t{1}, int64_t{65536}));
  return [options] {
    return options->to == "lora" ? adapter_to_lora(*options) : adapter_to_gguf(*options);
  };
}

}  // namespace mora::apps
