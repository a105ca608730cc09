#include "mora/train/resume.hpp"

#include <algorithm>
#include <array>
#include <ranges>

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

// Under another name, so that the run can write its checkpoint of that step again.
void set_aside(const std::filesystem::path& checkpoint, const Warn& warn) {
  const auto to = checkpoint.parent_path() /
                  str("damaged-", checkpoint.filename().string(), "-", random_suffix());
  std::error_code error;
  std::filesystem::rename(checkpoint, to, error);
  if (error) fail(ErrorKind::io, "cannot rename ", checkpoint.string(), ": ", error.message());
  warn(str("kept the damaged checkpoint as ", to.string()));
}

}  // namespace

RunIdentity identity_of(const RunConfig& config, const ExampleSource& data) {
  const std::filesystem::path& base = config.model.path;
  RunIdentity identity{
      .settings = {},
      .data_sha256 = data.sha256(),
      .base_sample = base.empty() ? "" : tensors_sample_sha256(SafetensorsFolder(base))};
  const Json flat = parse_json(to_json_text(config), "the configuration").flatten();
  for (const auto& [pointer, value] : flat.items()) {
    if (matters(pointer)) identity.settings[dotted(pointer)] = dump_json(value);
  }
  return identity;
}

std::optional<TrainingState> load_newest_checkpoint(const std::filesystem::path& checkpoints,
                                                    const RunIdentity& identity,
                                                    const TrainedModel& trained,
                                                    ParameterStore& store, const Warn& warn) {
  const auto found = list_checkpoints(checkpoints);
  std::vector<std::filesystem::path> damaged;
  for (const auto& checkpoint : found | std::views::reverse) {
    try {
      const TrainingState state = load_checkpoint(checkpoint, identity, trained, store);
      for (const auto& path : damaged) set_aside(path, warn);
      return state;
    } catch (const Error& e) {
      if (e.kind() != ErrorKind::data) throw;
      warn(e.what());
      damaged.push_back(checkpoint);
    }
  }
  if (found.empty()) return {};
  fail(ErrorKind::data, checkpoints.string(), ": none of the ", found.size(),
       " checkpoints is whole; nothing was loaded");
}

}  // namespace mora
