// Checkpoints whose JSON was crafted: hashes fit, so only what is said is wrong. Refused with one
// line that names the file, and nothing is loaded.
#include <doctest/doctest.h>

#include "io/json.hpp"
#include "mora/io/folder_commit.hpp"
#include "mora/io/sha256.hpp"
#include "mora/train/checkpoint.hpp"
#include "temporary_folder.hpp"
#include "tiny_training.hpp"

TEST_SUITE_BEGIN("hostile checkpoint");

namespace mora::testing {
namespace {

namespace fs = std::filesystem;

const RunIdentity kIdentity{{{"seed", "5"}}, "0123456789abcdef01", "abc"};

struct Case {
  const char* pointer;  // in the document
  Json value;
  const char* says;
};

TrainingState state_at(int64_t step) {
  TrainingState state;
  state.step = step;
  state.identity = kIdentity;
  return state;
}

struct Saved : TemporaryFolder {
  TinyExamples data{5};
  TinyTraining run{{.adapter = adapter_kind("lora").config}, data, tiny_train_config(3)};
  TrainedModel trained{.model = run.tiny.config,
                       .adapter = run.tiny.adapter,
                       .store = run.tiny.store,
                       .base = {"base", ""},
                       .tokenizer = {}};
  fs::path folder = save_checkpoint(path(), trained, state_at(3));
  Json state = parse_json(bytes_of(folder / "state.json"), "state");
  StateBytes before = run.state();

  // The folder with another state.json, committed anew.
  void check_state(const std::string& text, const std::string& says) {
    const TemporaryFolder place;
    FolderCommit commit(place.path(), "step-00000003");
    for (const char* file :
         {"adapter_config.json", "adapter_model.safetensors", "optimizer.safetensors"})
      fs::copy(folder / file, commit.path() / file);
    write_file_atomically(commit.path() / "state.json", text);
    check_refused(commit.commit(), "state.json", says);
  }

  // The manifest's last member is the SHA-256 of the text without that member.
  void check_manifest(const std::string& text, const std::string& says) {
    std::string body = text;
    if (body.ends_with("\n}\n")) {
      body.resize(body.size() - 3);
      body += ",\n  \"manifest_sha256\": \"" + sha256_hex(text) + "\"\n}\n";
    }
    write_file_atomically(folder / kManifestName, body);
    check_refused(folder, folder.string(), says);
  }

  void check_refused(const fs::path& checkpoint, const std::string& file, const std::string& says) {
    const std::string message = message_of(
        ErrorKind::data, [&] { load_checkpoint(checkpoint, kIdentity, trained, run.tiny.store); });
    CHECK_MESSAGE(message.find(file) != std::string::npos, message);
    CHECK_MESSAGE(message.find(says) != std::string::npos, message);
    CHECK_MESSAGE(message.find('\n') == std::string::npos, message);
    CHECK(message.size() < 1000);
    CHECK(run.state() == before);
  }
};

TEST_CASE("a state that cannot be is refused by key") {
  Saved saved;
  const std::vector<Case> cases = {
      {"/step", -1, "/step: must not be negative"},
      {"/step", 2.5, "/step: expected an integer"},
      {"/step", "3", "/step: expected an integer"},
      {"/step", true, "/step: expected an integer"},
      {"/step", nullptr, "step"},
      {"/step", 1e300, "/step: expected an integer"},
      {"/step", UINT64_MAX, "/step: expected an integer"},
      {"/tokens", INT64_MIN, "/tokens: must not be negative"},
      {"/tokens", Json::array(), "/tokens: expected an integer"},
      {"/loss", nullptr, "loss"},
      {"/loss", "nan", "/loss"},
      {"/loss", Json::object(), "/loss"},
      {"/seconds", "NaN", "/seconds: expected a number"},
      {"/seconds", Json::array({1}), "/seconds: expected a number"},
      {"/window", 3, "/window"},
      {"/window", Json::array(), "/window"},
      {"/window/steps", -5, "/window/steps: must not be negative"},
      {"/window/tokens", 0.5, "/window/tokens: expected an integer"},
      {"/window/loss", false, "/window/loss"},
      {"/metrics_bytes", -1, "/metrics_bytes: must not be negative"},
      {"/metrics_bytes", "all", "/metrics_bytes: expected an integer"},
      {"/data_sha256", 7, "/data_sha256: expected a string"},
      {"/base_sample", Json::array({"abc"}), "/base_sample: expected a string"},
      {"/settings", Json::array(), "/settings"},
      {"/settings", "seed", "/settings"},
      {"/settings/seed", 5, "/settings/seed: expected a string"},
  };
  for (const Case& bad : cases) {
    INFO(bad.pointer << " " << bad.value.dump());
    Json state = saved.state;
    state[Json::json_pointer(bad.pointer)] = bad.value;
    saved.check_state(dump_json(state), bad.says);
  }
  for (const auto& member : saved.state.items()) {
    INFO(member.key());
    Json state = saved.state;
    state.erase(member.key());
    saved.check_state(dump_json(state), member.key());
  }
}

TEST_CASE("a state that is no state is refused") {
  Saved saved;
  const std::string good = dump_json(saved.state);
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[]"), std::string("null"), std::string("3"),
        std::string("{}"), good + "x", good + good, good.substr(0, good.size() / 2),
        "{\"step\": 1, " + good.substr(1), std::string(100000, '['), std::string("\xff\xfe{"),
        std::string("{\"step\": \0}", 11), "{\"x\": \"" + std::string(2 << 20, 'x') + "\"}"}) {
    INFO(text.substr(0, 60));
    saved.check_state(text, "");
  }
}

TEST_CASE("a manifest that lies or leads elsewhere is refused, though its own hash is right") {
  Saved saved;
  Json good = parse_json(bytes_of(saved.folder / kManifestName), "manifest");
  good.erase("manifest_sha256");
  const std::vector<Case> cases = {
      {"/magic", "other-checkpoint", "/magic: expected"},
      {"/magic", 1, "/magic: expected a string"},
      {"/format_version", 2, "/format_version: is 2"},
      {"/format_version", 0, "/format_version: is 0"},
      {"/format_version", "1", "/format_version: expected an integer"},
      {"/format_version", 1.5, "/format_version: expected an integer"},
      {"/files", Json::object(), "/files: expected an array"},
      {"/files", nullptr, "files"},
      {"/files", Json::array(), "not listed in"},
      {"/files/0", "adapter_config.json", "/files/0"},
      {"/files/0/name", "../step-00000003/state.json", "does not lead to a file"},
      {"/files/0/name", "/etc/passwd", "does not lead to a file"},
      {"/files/0/name", "..", "does not lead to a file"},
      {"/files/0/name", ".", "does not lead to a file"},
      {"/files/0/name", "", "does not lead to a file"},
      {"/files/0/name", "gone", "missing, although"},
      {"/files/0/name", 3, "/files/0/name: expected a string"},
      {"/files/0/size", -1, "MANIFEST.json says -1"},
      {"/files/0/size", 1, "MANIFEST.json says 1"},
      {"/files/0/size", INT64_MAX, "MANIFEST.json says 9223372036854775807"},
      {"/files/0/size", 1e30, "/files/0/size: expected an integer"},
      {"/files/0/size", "9", "/files/0/size: expected an integer"},
      {"/files/0/sha256", "00", "damaged"},
      {"/files/0/sha256", nullptr, "sha256"},
      {"/files/0/sha256", 5, "/files/0/sha256: expected a string"},
  };
  for (const Case& bad : cases) {
    INFO(bad.pointer << " " << bad.value.dump());
    Json manifest = good;
    manifest[Json::json_pointer(bad.pointer)] = bad.value;
    saved.check_manifest(dump_json(manifest, 2) + "\n", bad.says);
  }
  for (const char* text : {"[\n]\n", "{\n}\n", "{\n  \"magic\": 1,\n  \"magic\": 1\n}\n", "\n}\n",
                           "{\n  \"a\": [\n}\n", "", "null"}) {
    INFO(text);
    saved.check_manifest(text, "");
  }
}

}  // namespace
}  // namespace mora::testing

TEST_SUITE_END();
