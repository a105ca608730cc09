// The table of methods. A new one is one source file and one line here.
#include <algorithm>
#include <exception>

#include "adapters/methods.hpp"
#include "adapters/module_rules.hpp"
#include "mora/adapters/files.hpp"
#include "mora/core/parallel.hpp"
#include "mora/core/random.hpp"

namespace mora {

namespace {

struct Method {
  std::string_view name;
  std::unique_ptr<Adapter> (*make)(const AdapterConfig&, const Scope&, int64_t in, int64_t out);
  int64_t (*parameters)(const AdapterConfig&, int64_t in, int64_t out);
};

constexpr Method kMethods[] = {
    {"lora", adapters::make_lora, adapters::lora_parameters},
    {"mora", adapters::make_mora, adapters::mora_parameters},
};

const Method& method(const AdapterConfig& config) {
  for (const Method& m : kMethods) {
    if (m.name == config.method) return m;
  }
  fail(ErrorKind::usage, "adapter.method: \"", config.method,
       "\" is not a method that attaches adapters");
}

std::string leaf_names(std::span<Linear* const> linears) {
  std::vector<std::string> names;
  for (const Linear* linear : linears) {
    std::string leaf = linear->path().substr(linear->path().rfind('.') + 1);
    if (std::ranges::find(names, leaf) == names.end()) names.push_back(std::move(leaf));
  }
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

// A run's configuration must mean what it says: every target exists.
void check_targets(const AdapterConfig& config, std::span<Linear* const> linears) {
  for (const std::string& target : config.target_modules) {
    const bool found = std::ranges::any_of(
        linears, [&](const Linear* l) { return adapters::ends_with_module(l->path(), target); });
    if (!found) {
      fail(ErrorKind::usage, "adapter.target_modules: \"", target,
           "\" matches no linear layer of the model; it has ", leaf_names(linears));
    }
  }
  if (config.target_modules.empty())
    fail(ErrorKind::usage, "adapter.target_modules: the list is empty");
}

// A folder's configuration may also mean modules that get no adapter here.
void check_file_targets(const AdapterConfig& config, const adapters::ModuleRules& rules) {
  for (const char* module : {"lm_head", "model.embed_tokens"}) {
    if (!rules.config_of(module)) continue;
    fail(ErrorKind::data, (config.file.folder / "adapter_config.json").string(),
         ": /target_modules: LoRA on \"", module,
         "\" is not supported; merge the adapter with PEFT and use the merged model");
  }
}

}  // namespace

std::unique_ptr<Adapter> make_adapter(const AdapterConfig& config, const Scope& scope, int64_t in,
                                      int64_t out) {
  if (config.r < 1)
    fail(ErrorKind::usage, "adapter.r: the rank must be at least 1, got ", config.r);
  return method(config).make(config, scope, in, out);
}

int64_t adapter_parameters(const AdapterConfig& config, int64_t in, int64_t out) {
  return method(config).parameters(config, in, out);
}

void attach_adapters(const AdapterConfig& config, ParameterStore& store,
                     std::span<Linear* const> linears) {
  const adapters::ModuleRules rules(config);
  const bool from_file = !config.file.folder.empty();
  if (from_file) {
    check_file_targets(config, rules);
  } else {
    check_targets(config, linears);
  }
  bool any = false;
  for (Linear* linear : linears) {
    const std::optional<AdapterConfig> own = rules.config_of(linear->path());
    if (!own) continue;
    linear->attach(make_adapter(*own, Scope(store, linear->path()), linear->in(), linear->out()));
    any = true;
  }
  if (!from_file && !any) {
    fail(ErrorKind::usage,
         "adapter.modules_to_save: trains all that adapter.target_modules names whole, so that no "
         "layer is left to adapt; use adapter.method \"full\", or name less");
  }
  if (!from_file) return;
  if (!any) {
    fail(ErrorKind::data, (config.file.folder / "adapter_config.json").string(),
         ": /target_modules match no linear layer of the model; it has ", leaf_names(linears));
  }
  check_adapter(config, store);
  const SafetensorsFile file(adapter_tensors(config.file.folder));
  for (Parameter& p : store.all()) {
    if (file.contains(adapter_tensor_name(p.name))) p.precision = Precision::working;
  }
}

void initialise_adapters(ParameterStore& store, uint64_t seed, std::span<Linear* const> linears) {
  store.initialise(seed, ".lora_");
  // Some starts take seconds a layer. An exception must not leave a thread.
  std::vector<std::exception_ptr> errors(linears.size());
  parallel_for(static_cast<int64_t>(linears.size()), [&](int64_t i) {
    const auto at = static_cast<size_t>(i);
    const Linear& linear = *linears[at];
    try {
      if (linear.adapter() != nullptr) linear.adapter()->initialise(seed, linear.weight().value);
    } catch (...) {
      errors[at] = std::current_exception();
    }
  });
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}

namespace adapters {

Var input_dropout(Context& context, Var x, double p, const std::string& path) {
  if (p == 0 || !context.dropout()) return x;
  const DropoutSource& source = *context.dropout();
  const Var mask = dropout_mask(
      source.step,
      {.elements = x.shape().elements(), .p = p, .seed = source.seed, .stream = stream_of(path)});
  return forget(dropout(x, mask, {.p = p}));
}

}  // namespace adapters

}  // namespace mora
