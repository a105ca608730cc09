// A run that stops and goes on from a checkpoint is the run that never stopped; a damaged
// checkpoint is never loaded.
#include "mora/train/checkpoint.hpp"

#include <doctest/doctest.h>

#include "temporary_folder.hpp"
#include "tiny_training.hpp"

TEST_SUITE_BEGIN("checkpoint");

namespace mora::testing {
namespace {

namespace fs = std::filesystem;

std::vector<AdapterKind> resumable_kinds() {
  return {{"full", full_training()},
          adapter_kinds()[2],
          adapter_kind("mora", "sharing"),
          adapter_kind("mora", "rotation")};
}

TrainedModel trained(const TinyTraining& run) {
  return {.model = run.tiny.config,
          .adapter = run.tiny.adapter,
          .store = run.tiny.store,
          .base = {"base", ""},
          .tokenizer = {}};
}

const RunIdentity kIdentity{{{"seed", "5"}, {"task", "\"uuid\""}}, "0123456789abcdef01"};

TrainingState state_at(int64_t step) {
  return {.step = step,
          .tokens = 99,
          .loss = 0.1,
          .seconds = 1.25,
          .window = {.loss = 0.7, .seconds = 0.1, .steps = 2, .tokens = 50},
          .metrics_bytes = 321,
          .identity = kIdentity};
}

fs::path save(const TemporaryFolder& folder, const TinyTraining& run, int64_t step) {
  return save_checkpoint(folder.path(), trained(run), state_at(step));
}

TEST_CASE("a resumed run goes on bit for bit as the undisturbed one") {
  const TinyExamples data(13);
  for (const AdapterKind& kind : resumable_kinds()) {
    INFO(kind.name);
    const TemporaryFolder folder;
    const TrainingSetup setup{.adapter = kind.config};
    TinyTraining whole(setup, data, tiny_train_config(3, 2)),
        first(setup, data, tiny_train_config(3, 2)), second(setup, data, tiny_train_config(3, 2));
    const std::vector<double> losses = whole.steps(10);
    first.steps(4);
    const fs::path saved = save(folder, first, 4);
    CHECK(saved == folder / "step-00000004");
    for (const Parameter& p : second.tiny.store.all()) {
      if (p.training == Training::trained) fill_random(p.value, "elsewhere " + p.name, 1);
    }
    const TrainingState state =
        load_checkpoint(saved, kIdentity, trained(second), second.tiny.store);
    CHECK(state == state_at(4));
    CHECK(second.state() == first.state());
    second.trainer.resume_at(state.step);
    CHECK(second.steps(6) == std::vector<double>(losses.begin() + 4, losses.end()));
    CHECK(second.state() == whole.state());
    CHECK(second.trainer.finished_steps() == 10);
  }
}

TEST_CASE("a checkpoint of a run with very many settings can be read") {
  const TinyExamples data(13);
  const TemporaryFolder folder;
  TinyTraining run({.adapter = adapter_kind("lora").config}, data, tiny_train_config(3));
  TrainingState state = state_at(2);
  for (int i = 0; i < 100; ++i)
    state.identity.settings[str("data.train_files.", i)] = std::string(20000, 'f');
  const fs::path saved = save_checkpoint(folder.path(), trained(run), state);
  REQUIRE(fs::file_size(saved / "state.json") > 2'000'000);
  CHECK(load_checkpoint(saved, state.identity, trained(run), run.tiny.store) == state);
}

TEST_CASE("every damage to a checkpoint is found before anything is loaded") {
  const TinyExamples data(13);
  for (const AdapterKind& kind : resumable_kinds()) {
    INFO(kind.name);
    const TemporaryFolder folder;
    TinyTraining run({.adapter = kind.config}, data, tiny_train_config(3));
    run.steps(2);
    const fs::path saved = save(folder, run, 2);
    run.steps(1);
    const StateBytes before = run.state();
    auto refused = [&] {
      message_of(ErrorKind::data,
                 [&] { load_checkpoint(saved, kIdentity, trained(run), run.tiny.store); });
      CHECK(run.state() == before);
    };
    int files = 0;
    for (const auto& entry : fs::directory_iterator(saved)) {
      const fs::path file = entry.path();
      INFO(file.filename().string());
      ++files;
      const std::string good = bytes_of(file);
      for (const size_t at : {size_t{0}, good.size() / 2, good.size() - 1}) {
        std::string bad = good;
        bad[at] = static_cast<char>(bad[at] ^ 1);
        std::ofstream(file, std::ios::binary) << bad;
        refused();
      }
      std::ofstream(file, std::ios::binary) << good.substr(0, good.size() - 1);
      refused();
      fs::remove(file);
      refused();
      std::ofstream(file, std::ios::binary) << good;
    }
    CHECK(files == 5);
    load_checkpoint(saved, kIdentity, trained(run), run.tiny.store);
    CHECK(run.state() != before);
  }
}

TEST_CASE("a checkpoint of another method or size is refused, and nothing changes") {
  const TinyExamples data(13);
  const TemporaryFolder folder;
  AdapterConfig larger = adapter_kind("mora", "sharing").config;
  larger.r = 5;
  TinyTraining run({.adapter = adapter_kind("mora", "sharing").config}, data, tiny_train_config(3));
  const fs::path saved = save(folder, run, 1);
  for (const AdapterConfig& other : {full_training(), adapter_kind("lora").config, larger}) {
    TinyTraining into({.adapter = other}, data, tiny_train_config(3));
    const StateBytes before = into.state();
    message_of(ErrorKind::data,
               [&] { load_checkpoint(saved, kIdentity, trained(into), into.tiny.store); });
    CHECK(into.state() == before);
  }
}

TEST_CASE("checkpoints are listed oldest first, and pruning keeps the newest") {
  const TinyExamples data(13);
  const TemporaryFolder folder;
  const TinyTraining run({.adapter = adapter_kind("lora").config}, data, tiny_train_config(3));
  for (const int64_t step : {20, 3, 100}) save(folder, run, step);
  fs::create_directory(folder / "step-latest");
  fs::create_directory(folder / "step-000000001");
  folder.file("step-00000001", "not a folder");
  const fs::path a = folder / "step-00000003", b = folder / "step-00000020",
                 c = folder / "step-00000100";
  CHECK(list_checkpoints(folder.path()) == std::vector<fs::path>{a, b, c});
  prune_checkpoints(folder.path(), 0);
  prune_checkpoints(folder.path(), 3);
  CHECK(list_checkpoints(folder.path()) == std::vector<fs::path>{a, b, c});
  prune_checkpoints(folder.path(), 2);
  CHECK(list_checkpoints(folder.path()) == std::vector<fs::path>{b, c});
  prune_checkpoints(folder.path(), 1);
  CHECK(list_checkpoints(folder.path()) == std::vector<fs::path>{c});
  CHECK(fs::exists(folder / "step-latest"));
  CHECK(list_checkpoints(folder / "absent").empty());
}

}  // namespace
}  // namespace mora::testing

TEST_SUITE_END();
