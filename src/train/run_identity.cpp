#include "mora/train/run_identity.hpp"

#include <algorithm>
#include <array>

#include "io/json.hpp"
#include "mora/io/file.hpp"
#include "mora/io/safetensors_folder.hpp"

namespace mora {

namespace {

// A device rounds differently, but a run may move to another.
constexpr std::array<std::string_view, 9> kFree = {
    "/output_dir", "/train/logging_steps", "/train/save_",    "/train/eval_steps",
    "/eval/",      "/train/recompute",     "/engine/threads", "/data/cache_dir",
    "/device"};

bool matters(const std::string& pointer) {
  return std::ranges::none_of(kFree, [&](std::string_view p) { return pointer.starts_with(p); });
}

// "/train/learning_rate" -> "train.learning_rate"
std::string dotted(const std::string& pointer) {
  std::string name = pointer.substr(1);
  std::ranges::replace(name, '/', '.');
  return name;
}

Settings settings_of(std::string_view configuration, std::string_view source) {
  Settings settings;
  const Json flat = parse_json(configuration, source, {.max_bytes = kMaxSettings}).flatten();
  for (const auto& [pointer, value] : flat.items()) {
    if (matters(pointer)) settings[dotted(pointer)] = dump_json(value);
  }
  return settings;
}

std::string difference(const std::string& name, const std::string& now, const std::string& before,
                       std::string_view made) {
  return str("\n  ", name, ": ", now, ", but ", made, " was made with ", before);
}

// One line for each setting that changed, came or went; a list's entries are settings each.
std::string differences(const Settings& saved, const Settings& now, std::string_view made) {
  const auto value_in = [](const Settings& settings, const std::string& name) {
    const auto found = settings.find(name);
    return found == settings.end() ? "no such setting" : found->second;
  };
  std::string changes;
  for (const auto& [name, value] : now) {
    const std::string before = value_in(saved, name);
    if (before != value) changes += difference(name, value, before, made);
  }
  for (const auto& [name, before] : saved) {
    if (!now.contains(name)) changes += difference(name, value_in(now, name), before, made);
  }
  return changes;
}

}  // namespace

RunIdentity identity_of(const RunConfig& config, const LlamaConfig& model,
                        const ExampleSource& data) {
  const std::filesystem::path& base = config.model.path;
  RunIdentity identity{
      .settings = settings_of(to_json_text(config), "the configuration"),
      .data_sha256 = data.sha256(),
      .base_sample = base.empty() ? "" : tensors_sample_sha256(SafetensorsFolder(base))};
  for (const auto& [name, value] : settings_of(to_json_text(model, DType::f32), "config.json"))
    identity.settings["config.json of the model, " + name] = value;
  return identity;
}

void check_identity(const std::filesystem::path& checkpoint, const RunIdentity& saved,
                    const RunIdentity& now) {
  constexpr std::string_view made = "the checkpoint";
  const auto begin = [](const std::string& hash) { return hash.substr(0, 16); };
  std::string changes = differences(saved.settings, now.settings, made);
  if (changes.empty() && saved.data_sha256 != now.data_sha256) {
    changes =
        difference("the training examples", begin(now.data_sha256), begin(saved.data_sha256), made);
  }
  if (changes.empty() && saved.base_sample != now.base_sample) {
    changes = difference("the weights in model.path", begin(now.base_sample),
                         begin(saved.base_sample), made);
  }
  if (changes.empty()) return;
  fail(ErrorKind::usage, checkpoint.string(),
       ": the run cannot go on exactly, because these are not the same:", changes,
       "\nSet them back, or start a new run in another output_dir");
}

void check_finished_run(const std::filesystem::path& run_config, const RunConfig& now) {
  const Settings saved = settings_of(read_file(run_config, kMaxSettings), run_config.string());
  const std::string changes =
      differences(saved, settings_of(to_json_text(now), "the configuration"), "the run");
  if (changes.empty()) return;
  fail(ErrorKind::usage, run_config.parent_path().string(),
       ": the run is finished, and these are not the same:", changes,
       "\nSet them back, --overwrite it, or start a new run in another output_dir");
}

}  // namespace mora
