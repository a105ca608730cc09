// Programs with "device": "cuda", as a user runs them: training, going on on the other device,
// evaluation, generation, and what is said when there is no device, too little memory, or a
// failure.
#include <cstdlib>

#include "command.hpp"
#include "io/json.hpp"

TEST_SUITE_BEGIN("cuda command");

namespace mora::testing {
namespace {

namespace fs = std::filesystem;

#ifdef MORA_EMULATED_CUDA
constexpr const char* kPrograms = MORA_BINARY_DIR "/tests/emulated-";
#else
constexpr const char* kPrograms = MORA_BINARY_DIR "/";
#endif

Finished run_program(const std::string& name, const fs::path& folder,
                     const std::vector<std::string>& options) {
  return run(folder, joined({kPrograms + name}, options));
}

struct Place : TemporaryFolder {
  explicit Place(const std::string& adapter = R"({"method": "mora", "r": 4})") {
    Json config = parse_json(uuid_config(adapter), "config");
    config["train"]["eval_steps"] = 0;
    config["eval"] = {{"max_new_tokens", 6}, {"num_samples", 2}};
    file("config.json", dump_json(config));
  }
  Finished train(const std::string& output, const std::string& device,
                 std::vector<std::string> more = {}) const {
    return run_program("mora-train", path(),
                       joined({"--config", "config.json", "--set", "output_dir=" + output, "--set",
                               "device=" + device},
                              more));
  }
  Json summary(const std::string& output) const {
    return parse_json(bytes_of(path() / output / "summary.json"), "summary.json");
  }
};

void check_near(const Json& a, const Json& b, const char* key, double bound) {
  INFO(key, ": ", dump_json(a), dump_json(b));
  CHECK(a.at(key).get<double>() == doctest::Approx(b.at(key).get<double>()).epsilon(bound));
}

TEST_CASE("a run on the device ends as on the processor, and as itself") {
  const Place place(R"({"method": "mora", "r": 4, "lora_dropout": 0.1})");
  for (const std::string dtype : {"fp32", "bf16"}) {
    const auto train = [&](const std::string& name, const std::string& device) {
      const Finished done = place.train(name, device, {"--set", "dtype=" + dtype});
      REQUIRE_MESSAGE(done.code == 0, done.err);
      return done;
    };
    train("cpu-" + dtype, "cpu");
    const Finished first = train("first-" + dtype, "cuda");
    train("second-" + dtype, "cuda");
    const Json cpu = place.summary("cpu-" + dtype), cuda = place.summary("first-" + dtype);
    check_near(cuda, cpu, "loss", dtype == "bf16" ? 2e-2 : 1e-4);
    CHECK(cuda.at("device") != cpu.at("device"));
    CHECK_MESSAGE(first.err.find(cuda.at("device").get<std::string>()) != std::string::npos,
                  first.err);
    const char* weights = "adapter/adapter_model.safetensors";
    CHECK(bytes_of(place / ("first-" + dtype) / weights) ==
          bytes_of(place / ("second-" + dtype) / weights));
  }
}

TEST_CASE("a run goes on on the other device after a checkpoint") {
  const Place place;
  REQUIRE(place.train("cpu", "cpu").code == 0);
  REQUIRE(place.train("cuda", "cuda").code == 0);
  for (const std::string from : {"cpu", "cuda"}) {
    const std::string to = from == "cpu" ? "cuda" : "cpu", moved = from + "-then-" + to;
    fs::copy(place / from, place / moved, fs::copy_options::recursive);
    for (const char* later : {"summary.json", "adapter", "checkpoints/step-00000006"})
      fs::remove_all(place / moved / later);
    const Finished done = place.train(moved, to, {"--resume"});
    REQUIRE_MESSAGE(done.code == 0, done.err);
    CHECK_MESSAGE(done.err.find("going on after step 3") != std::string::npos, done.err);
    check_near(place.summary(moved), place.summary("cpu"), "loss", 1e-4);
  }
}

TEST_CASE("evaluation and generation on the device give the processor's answers") {
  const Place place;
  REQUIRE(place.train("run", "cpu").code == 0);
  std::vector<std::string> scores, texts;
  for (const std::string device : {"cpu", "cuda"}) {
    const Finished score =
        run_program("mora-eval", place.path(), {"--config", "config.json", "--device", device});
    REQUIRE_MESSAGE(score.code == 0, score.err);
    scores.push_back(score.out);
    const Finished text = run_program("mora-generate", place.path(),
                                      {"--model", kBase, "--adapter", "run/adapter", "--prompt",
                                       "The old man", "--max-new-tokens", "6", "--device", device});
    REQUIRE_MESSAGE(text.code == 0, text.err);
    texts.push_back(text.out);
  }
  CHECK(scores[0] == scores[1]);
  CHECK(texts[0] == texts[1]);
}

#ifdef MORA_EMULATED_CUDA

// What the emulated machine is like, for the programs started while this lives.
class Machine {
 public:
  explicit Machine(const char* settings) { ::setenv("MORA_EMULATED_CUDA", settings, 1); }
  ~Machine() { ::unsetenv("MORA_EMULATED_CUDA"); }
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;
};

TEST_CASE("what is missing is one line and the documented exit code") {
  struct Lacking {
    const char *machine, *said;
    int code;
  };
  const std::vector<Lacking> machines = {
      {"driver=0", "no NVIDIA driver", 2},
      {"devices=0", "no CUDA device is visible", 2},
      {"capability=75", "compute capability 7.5", 2},
      {"managed=0", "concurrentManagedAccess", 2},
      {"ready=0", "no CUDA device can be used: an emulated error", 2},
      {"mebibytes=1", "out of memory", 4},
      {"fail=1", "CUDA, running kernels", 1}};
  const Place place;
  for (const Lacking& lacking : machines) {
    const Machine machine(lacking.machine);
    const Finished done = place.train("run", "cuda");
    INFO(lacking.machine, ": ", done.err);
    CHECK(done.code == lacking.code);
    CHECK(done.err.find(lacking.said) != std::string::npos);
    CHECK(std::ranges::count(done.err, '\n') == 1);
    CHECK_FALSE(fs::exists(place / "run" / "summary.json"));
  }
}

TEST_CASE("a batch that does not fit the device's memory is refused with what takes it") {
  const Place place;
  const Machine machine("mebibytes=24");
  const Finished done = place.train(
      "run", "cuda", {"--set", "train.per_device_train_batch_size=512", "--set", "data.pairs=512"});
  INFO(done.err);
  CHECK(done.code == 4);
  for (const char* part : {"out of memory", "frozen weights", "activations", "emulated device"})
    CHECK(done.err.find(part) != std::string::npos);
  CHECK_FALSE(fs::exists(place / "run"));
}

TEST_CASE("a device with little shared memory is said to have it, walked and recorded") {
  const Place place;
  const Machine machine("shared=50000");
  const Finished done = place.train("run", "cuda");
  CHECK(done.code == 1);
  CHECK_MESSAGE(done.err.find("shared memory") != std::string::npos, done.err);
  CHECK(done.err.find("choose dtype bf16") != std::string::npos);
  CHECK_FALSE(fs::exists(place / "run" / "summary.json"));
}

#else

TEST_CASE("without a visible device it is said so") {
  const Place place;
  ::setenv("CUDA_VISIBLE_DEVICES", "", 1);
  const Finished done = place.train("run", "cuda");
  ::unsetenv("CUDA_VISIBLE_DEVICES");
  CHECK(done.code == 2);
  CHECK_MESSAGE(done.err.find("no CUDA device is visible") != std::string::npos, done.err);
}

#endif

}  // namespace
}  // namespace mora::testing

TEST_SUITE_END();
