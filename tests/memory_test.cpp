// Memory of a whole run: what it says before its first step is what it takes, within 5 %, and
// computing activations again makes it less.
#include <doctest/doctest.h>

#include <cmath>

#include "command.hpp"
#include "io/json.hpp"

TEST_SUITE_BEGIN("memory");

namespace mora::testing {
namespace {

struct Memory {
  double planned, peak;
};

// Of a run whose activations are far larger than the program.
Memory memory_of(const TemporaryFolder& folder, std::vector<std::string> settings) {
  std::vector<std::string> arguments = {"--config", "config.json"};
  for (const char* common :
       {"data.pairs=440", "train.per_device_train_batch_size=440", "train.max_steps=2",
        "train.save_steps=0", "train.save_at=[]", "eval.num_samples=1", "engine.threads=2"})
    settings.emplace_back(common);
  for (std::string& setting : settings) {
    arguments.emplace_back("--set");
    arguments.push_back(std::move(setting));
  }
  const Finished run = train(folder.path(), arguments);
  REQUIRE_MESSAGE(run.code == 0, run.err);
  CHECK(run.err.find("memory: ") != std::string::npos);
  const Json summary = parse_json(bytes_of(folder / "run/summary.json"), "summary.json");
  return {summary.at("planned_memory_bytes").get<double>(),
          summary.at("peak_memory_bytes").get<double>()};
}

double check_announced(const std::string& adapter, std::vector<std::string> settings) {
  const std::string what = str(adapter, " ", settings.front());
  INFO(what);
  const TemporaryFolder folder;
  folder.file("config.json", uuid_config(adapter));
  const Memory memory = memory_of(folder, std::move(settings));
  CHECK(memory.planned > 200e6);
  CHECK(std::abs(memory.peak - memory.planned) < 0.05 * memory.planned);
  return memory.planned;
}

TEST_CASE("a run takes the memory that it has announced") {
#ifdef __SANITIZE_ADDRESS__
  return;  // has memory of its own
#endif
  const std::string lora = R"({"method": "lora"})";
  for (const char* dtype : {"dtype=fp32", "dtype=bf16"}) {
    const double all = check_announced(lora, {dtype}),
                 less = check_announced(lora, {dtype, "train.recompute=block"});
    CHECK(less < 0.6 * all);
  }
  check_announced(R"({"method": "mora"})", {"dtype=fp32"});
  check_announced(R"({"method": "full"})", {"dtype=fp32"});
}

}  // namespace
}  // namespace mora::testing

TEST_SUITE_END();
