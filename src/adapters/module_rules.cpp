#include "adapters/module_rules.hpp"

#include <algorithm>
#include <charconv>

#include "mora/core/error.hpp"

namespace mora::adapters {

bool ends_with_module(std::string_view path, std::string_view end) {
  if (!path.ends_with(end)) return false;
  return path.size() == end.size() || path[path.size() - end.size() - 1] == '.';
}

std::string pattern_of_key(std::string_view key, AdapterFile::Rules rules) {
  if (rules == AdapterFile::Rules::authors) return str(".*\\.", key, "$");
  return str("(.*\\.)?(", key, ")$");
}

std::string pattern_of_saved(std::string_view module) {
  return str("(^|.*\\.)", module, "($|\\..*)");
}

// The first number after such a name is the layer's.
std::string pattern_of_layers(const std::string* layers_pattern, AdapterFile::Rules rules) {
  const bool authors = rules == AdapterFile::Rules::authors;  // theirs is the last number
  const char* begin = authors                     ? R"(.*\.)"
                      : layers_pattern == nullptr ? R"(.*?\.)"
                                                  : R"((?:^|.*?\.))";
  return str(begin, layers_pattern == nullptr ? "[^.]*" : *layers_pattern, R"(\.(?P<idx>\d+)\.)");
}

ModuleRules::ModuleRules(const AdapterConfig& config) : config_(config), module_(config) {
  module_.file = {};
  const AdapterFile& file = config.file;
  if (!file.target_pattern.empty() && file.target_pattern != kAllLinear)
    target_.emplace(file.target_pattern);
  if (!file.exclude_pattern.empty()) exclude_.emplace(file.exclude_pattern);
  for (const std::string& module : config.modules_to_save)
    saved_.emplace_back(pattern_of_saved(module));
  for (const std::string& pattern : file.layers_pattern)
    layers_.emplace_back(pattern_of_layers(&pattern, file.rules));
  if (layers_.empty()) layers_.emplace_back(pattern_of_layers(nullptr, file.rules));
  for (const auto& [key, rank] : file.rank_pattern)
    ranks_.emplace_back(PythonRegex(pattern_of_key(key, file.rules)), rank);
  for (const auto& [key, alpha] : file.alpha_pattern)
    alphas_.emplace_back(PythonRegex(pattern_of_key(key, file.rules)), alpha);
}

bool ModuleRules::excluded(std::string_view path) const {
  const auto ends = [&](const std::string& name) { return ends_with_module(path, name); };
  return std::ranges::any_of(config_.file.exclude_modules, ends) ||
         (exclude_ && exclude_->full_match(path)) ||
         std::ranges::any_of(saved_, [&](const PythonRegex& r) { return r.match(path); });
}

bool ModuleRules::in_layers(std::string_view path) const {
  const std::vector<int64_t>& wanted = config_.file.layers_to_transform;
  if (wanted.empty()) return true;
  for (const PythonRegex& pattern : layers_) {
    const std::optional<std::string> digits = pattern.group(path, "idx");
    if (!digits) continue;
    int64_t layer = -1;
    const auto [end, error] =
        std::from_chars(digits->data(), digits->data() + digits->size(), layer);
    return error == std::errc() && end == digits->data() + digits->size() &&
           std::ranges::find(wanted, layer) != wanted.end();
  }
  return false;
}

bool ModuleRules::targeted(std::string_view path) const {
  if (target_) return target_->full_match(path);
  if (config_.file.target_pattern == kAllLinear)
    return !ends_with_module(path, "lm_head") && !ends_with_module(path, "embed_tokens");
  // What names the path itself is meant, whatever its layer.
  const std::vector<std::string>& targets = config_.target_modules;
  if (std::ranges::find(targets, path) != targets.end()) return true;
  return std::ranges::any_of(targets,
                             [&](const std::string& t) { return ends_with_module(path, t); }) &&
         in_layers(path);
}

void ModuleRules::apply_patterns(std::string_view path, AdapterConfig& config) const {
  const auto matches = [&](const auto& entry) { return entry.first.match(path); };
  const auto rank = std::ranges::find_if(ranks_, matches);
  if (rank != ranks_.end()) config.r = rank->second;
  auto alpha = std::ranges::find_if(alphas_, matches);
  if (rank != ranks_.end() && config_.file.rules == AdapterFile::Rules::authors) {
    // Their code looks both settings up by one key, the first that matches.
    const auto& key = config_.file.rank_pattern[static_cast<size_t>(rank - ranks_.begin())].first;
    const auto& keys = config_.file.alpha_pattern;
    alpha = alphas_.begin() +
            (std::ranges::find(keys, key, &std::pair<std::string, double>::first) - keys.begin());
  }
  if (alpha != alphas_.end()) config.lora_alpha = alpha->second;
}

std::optional<AdapterConfig> ModuleRules::config_of(std::string_view path) const try {
  if (excluded(path) || !targeted(path)) return std::nullopt;
  AdapterConfig config = module_;
  apply_patterns(path, config);
  return config;
} catch (const Error& error) {
  fail(error.kind(), (config_.file.folder / "adapter_config.json").string(), ": ", error.what());
}

}  // namespace mora::adapters
