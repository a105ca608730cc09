#include "mora/train/checkpoint.hpp"

#include <algorithm>
#include <cstdio>

#include "io/json.hpp"
#include "mora/adapters/files.hpp"
#include "mora/io/file.hpp"
#include "mora/io/folder_commit.hpp"
#include "mora/io/safetensors_folder.hpp"
#include "mora/text/tokenizer.hpp"

namespace mora {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kStep = "step-";
constexpr const char* kMergedBase = "base";

std::string step_name(int64_t step) {
  char name[32];
  std::snprintf(name, sizeof name, "step-%08lld", static_cast<long long>(step));
  return name;
}

// The views of one flat optimizer block under its parameters' names.
std::vector<NamedTensor> named_block(const ParameterStore& store, const Tensor& block,
                                     const std::string& prefix) {
  std::vector<NamedTensor> tensors;
  for (const Parameter& p : store.all()) {
    if (p.training == Training::trained)
      tensors.push_back({prefix + p.name, store.part_of(block, p)});
  }
  return tensors;
}

std::vector<NamedTensor> optimizer_tensors(const ParameterStore& store) {
  std::vector<NamedTensor> tensors = named_block(store, store.exp_avg(), "exp_avg.");
  const std::vector<NamedTensor> second = named_block(store, store.exp_avg_sq(), "exp_avg_sq.");
  tensors.insert(tensors.end(), second.begin(), second.end());
  return tensors;
}

Json to_json(const TrainingState& s) {
  return {{"step", s.step},
          {"tokens", s.tokens},
          {"loss", json_number(s.loss)},
          {"seconds", s.seconds},
          {"window",
           {{"loss", json_number(s.window.loss)},
            {"seconds", s.window.seconds},
            {"steps", s.window.steps},
            {"tokens", s.window.tokens}}},
          {"metrics_bytes", s.metrics_bytes},
          {"data_sha256", s.identity.data_sha256},
          {"base_sample", s.identity.base_sample},
          {"settings", s.identity.settings}};
}

TrainingState read_state(const fs::path& file) {
  const Json document =
      parse_json(read_file(file, kMaxSettings), file.string(), {.max_bytes = kMaxSettings});
  const JsonView json(document, file.string()), window = json.at("window");
  auto count = [](const JsonView& value) {
    if (value.integer() < 0) value.wrong("must not be negative");
    return value.integer();
  };
  TrainingState state{.step = count(json.at("step")),
                      .tokens = count(json.at("tokens")),
                      .loss = json.at("loss").any_number(),
                      .seconds = json.at("seconds").number(),
                      .window = {.loss = window.at("loss").any_number(),
                                 .seconds = window.at("seconds").number(),
                                 .steps = count(window.at("steps")),
                                 .tokens = count(window.at("tokens"))},
                      .metrics_bytes = count(json.at("metrics_bytes")),
                      .identity = {.settings = {},
                                   .data_sha256 = json.at("data_sha256").string(),
                                   .base_sample = json.at("base_sample").string()}};
  for (const auto& [name, value] : json.at("settings").members())
    state.identity.settings[name] = value.string();
  return state;
}

}  // namespace

void save_whole(const fs::path& folder, const TrainedModel& trained, DType dtype) {
  save_model(folder, trained.model, trained.store, dtype);
  if (!trained.tokenizer.empty()) copy_tokenizer(trained.tokenizer, folder);
}

void save_trained(const fs::path& folder, const TrainedModel& trained, DType dtype,
                  MoraScale scale) {
  if (trained.adapter.method == "full") {
    save_whole(folder, trained, dtype);
  } else {
    save_adapter(folder, trained.adapter, trained.store, trained.base, scale);
  }
}

namespace {

// The weights that the adapter of a restarting run belongs to, which are no longer those that the
// run began with. F32, which holds every type of frozen matrices.
AdapterBase save_merged_base(const fs::path& folder, const fs::path& final_folder,
                             const TrainedModel& trained) {
  fs::create_directory(folder);
  save_whole(folder, trained, DType::f32);
  const SafetensorsFolder base(folder);
  return {.name = final_folder.string(),
          .sha256 = tensors_sha256(base),
          .sample = tensors_sample_sha256(base),
          .merges = trained.base.merges};
}

}  // namespace

fs::path save_checkpoint(const fs::path& checkpoints, const TrainedModel& trained,
                         const TrainingState& state) {
  FolderCommit commit(checkpoints, step_name(state.step));
  TrainedModel saved = trained;
  if (trained.base.merges > 0) {
    saved.base = save_merged_base(commit.path() / kMergedBase,
                                  checkpoints / step_name(state.step) / kMergedBase, trained);
  }
  save_trained(commit.path(), saved, DType::f32, MoraScale::kept);
  write_safetensors(commit.path() / "optimizer.safetensors", optimizer_tensors(trained.store));
  write_file_atomically(commit.path() / "state.json", dump_json(to_json(state), 2) + "\n");
  return commit.commit({{"step", std::to_string(state.step)}});
}

TrainingState load_checkpoint(const fs::path& checkpoint, const RunIdentity& identity,
                              const TrainedModel& trained, ParameterStore& store) {
  verify_folder(checkpoint);
  const TrainingState state = read_state(checkpoint / "state.json");
  check_identity(checkpoint, state.identity, identity);
  const SafetensorsFile optimizer(checkpoint / "optimizer.safetensors");
  const std::vector<NamedTensor> moments = optimizer_tensors(store);
  for (const NamedTensor& t : moments) {
    if (!std::ranges::equal(optimizer.info(t.name).shape, t.tensor.shape().dims())) {
      fail(ErrorKind::data, optimizer.path().string(), ": ", t.name, " is ", optimizer.info(t.name),
           ", expected ", t.tensor.shape());
    }
  }
  const fs::path base = checkpoint / kMergedBase;
  const bool merged = fs::is_directory(base);
  if (merged) check_weights(SafetensorsFolder(base), store, trained.model);
  if (trained.adapter.method == "full") {
    load_weights(store, trained.model, checkpoint);
  } else {
    load_adapter(checkpoint, store);
  }
  if (merged) load_weights(store, trained.model, base);
  for (const NamedTensor& t : moments) optimizer.read(t.name, t.tensor);
  return state;
}

std::vector<fs::path> list_checkpoints(const fs::path& checkpoints) {
  std::vector<fs::path> found;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(checkpoints, none)) {
    const std::string name = entry.path().filename().string();
    const bool digits =
        name.size() == kStep.size() + 8 && name.starts_with(kStep) &&
        std::ranges::all_of(name.substr(kStep.size()), [](char c) { return c >= '0' && c <= '9'; });
    if (digits && entry.is_directory()) found.push_back(entry.path());
  }
  std::ranges::sort(found);
  return found;
}

void prune_checkpoints(const fs::path& checkpoints, int64_t keep) {
  if (keep <= 0) return;
  const std::vector<fs::path> found = list_checkpoints(checkpoints);
  const auto surplus = static_cast<int64_t>(found.size()) - keep;
  for (int64_t i = 0; i < surplus; ++i) remove_folder(found[static_cast<size_t>(i)]);
}

}  // namespace mora
