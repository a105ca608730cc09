#include "adapters/saved_modules.hpp"

#include <algorithm>

#include "mora/adapters/adapters.hpp"
#include "mora/adapters/files.hpp"

namespace mora {

namespace {

bool ends_a_module(const std::string& tensor, const std::string& saved) {
  for (size_t dot = tensor.find('.'); dot != tensor.npos; dot = tensor.find('.', dot + 1)) {
    if (std::string_view(tensor).substr(0, dot).ends_with(saved)) return true;
  }
  return false;
}

bool is_untied(const ParameterStore& store) {
  return std::ranges::any_of(store.all(),
                             [](const Parameter& p) { return p.name == "lm_head.weight"; });
}

}  // namespace

bool adapters::is_saved(const AdapterConfig& config, const std::string& tensor) {
  return std::ranges::any_of(config.modules_to_save, [&](const std::string& saved) {
    return ends_a_module(tensor, saved);
  });
}

bool adapters::is_tied_embedding(const ParameterStore& store, const std::string& parameter) {
  return parameter == "model.embed_tokens.weight" && !is_untied(store);
}

void train_saved_modules(const AdapterConfig& config, ParameterStore& store) {
  for (const std::string& saved : config.modules_to_save) {
    bool any = false;
    for (Parameter& p : store.all()) {
      if (saved.empty() || !ends_a_module(adapter_tensor_name(p.name), saved)) continue;
      if (adapters::is_tied_embedding(store, p.name)) {
        fail(ErrorKind::usage, "adapter.modules_to_save: \"", saved, "\" means ", p.name,
             ", which is also the model's output (tie_word_embeddings); PEFT would train a copy of "
             "it for the input alone. Leave it out, or give a model whose lm_head.weight is a "
             "tensor of its own");
      }
      p.training = Training::trained;
      any = true;
    }
    if (any) continue;
    fail(ErrorKind::usage, "adapter.modules_to_save: \"", saved,
         "\" matches no module of the model",
         saved.ends_with("lm_head") && !is_untied(store)
             ? "; its output is the embedding (tie_word_embeddings)"
             : "");
  }
}

void set_loraplus_ratio(ParameterStore& store, double ratio) {
  for (Parameter& p : store.all()) {
    if (p.training != Training::trained) continue;
    const bool of_b = p.name.find("lora_B") != std::string::npos;
    if (of_b || p.shape.rank() == 1) p.lr_ratio = ratio;
  }
}

}  // namespace mora
