#include "mora/train/checkpoint.hpp"

#include <algorithm>
#include <cstdio>

#include "io/json.hpp"
#include "mora/adapters/files.hpp"
#include "mora/io/file.hpp"
#include "mora/io/folder_commit.hpp"
#include "mora/io/safetensors.hpp"

namespace mora {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kStep = "step-";

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
    if (p.training != Training::trained) continue;
    const auto* first = static_cast<const std::byte*>(store.values().data);
    const auto offset = static_cast<const std::byte*>(p.value.data) - first;
    tensors.push_back(
        {prefix + p.name, {static_cast<std::byte*>(block.data) + offset, p.value.type}});
  }
  return tensors;
}

std::vector<NamedTensor> optimizer_tensors(const ParameterStore& store) {
  std::vector<NamedTensor> tensors = named_block(store, store.exp_avg(), "exp_avg.");
  const std::vector<NamedTensor> second = named_block(store, store.exp_avg_sq(), "exp_avg_sq.");
  tensors.insert(tensors.end(), second.begin(), second.end());
  return tensors;
}

}  // namespace

void save_trained(const fs::path& folder, const TrainedModel& trained, DType dtype) {
  if (trained.adapter.method == "full") {
    save_model(folder, trained.model, trained.store, dtype);
    if (!trained.tokenizer.empty()) {
      write_file_atomically(folder / "tokenizer.model",
                            read_file(trained.tokenizer, size_t{256} << 20));
    }
  } else {
    save_adapter(folder, trained.adapter, trained.store, trained.base_model);
  }
}

fs::path save_checkpoint(const fs::path& checkpoints, const TrainedModel& trained,
                         const TrainingState& state) {
  FolderCommit commit(checkpoints, step_name(state.step));
  save_trained(commit.path(), trained, DType::f32);
  write_safetensors(commit.path() / "optimizer.safetensors", optimizer_tensors(trained.store));
  Json json;
  json["step"] = state.step;
  json["tokens"] = state.tokens;
  json["seed"] = static_cast<int64_t>(state.seed);
  write_file_atomically(commit.path() / "state.json", dump_json(json, 2) + "\n");
  return commit.commit({{"step", std::to_string(state.step)}});
}

TrainingState load_checkpoint(const fs::path& checkpoint, const TrainedModel& trained,
                              ParameterStore& store) {
  verify_folder(checkpoint);
  const fs::path state_file = checkpoint / "state.json";
  const Json document = parse_json(read_file(state_file, size_t{1} << 20), state_file.string());
  const JsonView json(document, state_file.string());
  const TrainingState state{.step = json.at("step").integer(),
                            .tokens = json.at("tokens").integer(),
                            .seed = static_cast<uint64_t>(json.at("seed").integer())};
  for (const char* key : {"step", "tokens"}) {
    if (json.at(key).integer() < 0) json.at(key).wrong("must not be negative");
  }
  const SafetensorsFile optimizer(checkpoint / "optimizer.safetensors");
  const std::vector<NamedTensor> moments = optimizer_tensors(store);
  for (const NamedTensor& t : moments) {
    if (!std::ranges::equal(optimizer.info(t.name).shape, t.tensor.shape().dims())) {
      fail(ErrorKind::data, optimizer.path().string(), ": ", t.name, " is ", optimizer.info(t.name),
           ", expected ", t.tensor.shape());
    }
  }
  if (trained.adapter.method == "full") {
    load_weights(store, trained.model, checkpoint);
  } else {
    load_adapter(checkpoint, store);
  }
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
