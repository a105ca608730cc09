// Which modules an adapter changes, and how each: a configuration's lists and patterns resolved
// against the paths of modules, by PEFT's rules (tuners_utils.check_target_module_exists,
// other.get_pattern_key) or those of the MoRA authors' fork (lora/model.py:144-148).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "adapters/python_regex.hpp"
#include "mora/config/run_config.hpp"

namespace mora::adapters {

// "q_proj" and "self_attn.q_proj" end "model.layers.0.self_attn.q_proj"; "proj" does not.
bool ends_with_module(std::string_view path, std::string_view end);

// PEFT's own patterns around those of a configuration.
// of rank_pattern, alpha_pattern
std::string pattern_of_key(std::string_view key, AdapterFile::Rules rules);
std::string pattern_of_saved(std::string_view module);  // of modules_to_save
// null: any list of layers
std::string pattern_of_layers(const std::string* layers_pattern, AdapterFile::Rules rules);

class ModuleRules {
 public:
  explicit ModuleRules(const AdapterConfig& config);  // Error(data) if a pattern does not compile

  // The configuration of this module's own adapter; nothing where it gets none.
  std::optional<AdapterConfig> config_of(std::string_view path) const;

 private:
  template <class T>
  using Patterns = std::vector<std::pair<PythonRegex, T>>;

  bool excluded(std::string_view path) const;
  bool targeted(std::string_view path) const;
  bool in_layers(std::string_view path) const;
  void apply_patterns(std::string_view path, AdapterConfig& config) const;

  AdapterConfig config_;
  AdapterConfig module_;  // what all modules share
  std::optional<PythonRegex> target_, exclude_;
  std::vector<PythonRegex> saved_, layers_;
  Patterns<int64_t> ranks_;
  Patterns<double> alphas_;
};

}  // namespace mora::adapters
