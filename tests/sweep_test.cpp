// scripts/sweep as a user runs it: a grid of small runs on the model that comes with the program.
#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>

#include "command.hpp"
#include "mora/io/file.hpp"

namespace fs = std::filesystem;

namespace mora::testing {
namespace {

constexpr const char* kConfig = R"({
  "task": "uuid", "output_dir": "unused", "model": {"path": ")" MORA_SOURCE_DIR R"(/data/base"},
  "data": {"pairs": 4},
  "train": {"per_device_train_batch_size": 4, "max_steps": 4, "logging_steps": 2, "eval_steps": 2},
  "eval": {"max_new_tokens": 4}
})";

constexpr const char* kSweep = R"({
  "title": "Ranks", "config": "config.json", "settings": {"train.learning_rate": 1e-3},
  "grids": [
    [{"name": "method", "labels": ["full"], "set": {"adapter": [{"method": "full"}]}}],
    [{"name": "method", "labels": ["LoRA", "MoRA"],
      "set": {"adapter": [{"method": "lora"}, {"method": "mora"}], "train.warmup_steps": [0, 1]}},
     {"name": "rank", "set": {"adapter.r": [1, 2]}}]
  ],
  "seeds": [1, 2],
  "after": [["mora-inspect", "{run}", "--json", "{run}/inspect.json"]],
  "tables": [
    {"title": "By rank", "rows": ["method"], "columns": "rank", "value": "summary:loss", "format": ".3f"},
    {"title": "By step", "rows": ["method", "rank"], "value": "metrics:loss", "steps": [2, 4]}
  ],
  "plots": [
    {"title": "Loss", "kind": "curves", "y": "metrics:loss", "series": ["method", "rank"]},
    {"title": "Accuracy", "kind": "axis", "x": "rank", "y": "summary:character_accuracy", "series": ["method"]},
    {"title": "Singular values", "kind": "bars", "y": "inspect:updates_by_type/above_threshold", "by": "type",
     "series": ["method", "rank"]}
  ]
})";

struct Folder {
  TemporaryFolder folder;

  explicit Folder(std::string_view sweep = kSweep, std::string_view config = kConfig) {
    folder.file("config.json", config);
    folder.file("sweep.json", sweep);
  }
  std::vector<std::string> command(const std::string& verb,
                                   const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words = {MORA_SOURCE_DIR "/scripts/sweep",
                                      verb,
                                      "sweep.json",
                                      "--output",
                                      "out",
                                      "--build",
                                      MORA_BINARY_DIR};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  Finished sweep(const std::string& verb, const std::vector<std::string>& more = {}) const {
    return run(folder.path(), command(verb, more));
  }
  std::string text(const std::string& name) const { return bytes_of(folder / ("out/" + name)); }
};

bool has(const std::string& text, std::string_view part) {
  return text.find(part) != text.npos;
}

int64_t count(const std::string& text, std::string_view part) {
  int64_t n = 0;
  for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++n;
  return n;
}

std::string with(std::string text, std::string_view from, std::string_view to) {
  const size_t at = text.find(from);
  REQUIRE(at != text.npos);
  return text.replace(at, from.size(), to);
}

}  // namespace

TEST_SUITE_BEGIN("sweep");

TEST_CASE("a sweep trains every point of its grids for every seed and reports means") {
  const Folder f;
  const Finished first = f.sweep("run", {"--jobs", "2"});
  INFO(first.err);
  REQUIRE(first.code == 0);
  CHECK(count(first.err, ": finished\n") == 10);
  const std::string report = f.text("report.md");
  CHECK(has(report, "10 of 10 runs are finished"));
  CHECK(has(report, "| method | rank 1 | rank 2 |"));
  CHECK(has(report, "| full | - | - |"));
  CHECK(has(report, "| method | rank | step 2 | step 4 |"));
  CHECK(count(report, "(2) |") == 2 * 2 + 5 * 2);  // means of two seeds in every cell
  const std::string csv = f.text("results.csv");
  CHECK(has(csv, "run,method,rank,seed,"));
  CHECK(std::ranges::count(csv, '\n') == 11);
  for (const char* plot : {"1-loss.svg", "2-accuracy.svg", "3-singular_values.svg"})
    CHECK(has(f.text(plot), "</svg>"));

  const Finished again = f.sweep("run");
  CHECK(again.code == 0);
  CHECK(count(again.err, ": finished before\n") == 10);
  CHECK(f.text("report.md") == report);
  CHECK(f.sweep("report").code == 0);
}

TEST_CASE("a run that fails leaves the others running and is tried again") {
  const Folder f(with(kSweep, "\"adapter.r\": [1, 2]", "\"adapter.r\": [1, 0]"));
  const Finished first = f.sweep("run");
  INFO(first.err);
  CHECK(first.code == 1);
  CHECK(count(first.err, ": finished\n") == 6);
  CHECK(count(first.err, "FAILED with exit code 2: ") == 4);
  CHECK(has(first.err, "/adapter/r"));
  CHECK(has(f.text("report.md"), "6 of 10 runs are finished"));
  CHECK(has(f.text("report.md"), "Without a result: LoRA-0-seed1"));
  f.folder.file("sweep.json", kSweep);
  CHECK(f.sweep("run").code == 0);
}

TEST_CASE("a sweep that was stopped goes on with the interrupted run") {
  const Folder f(kSweep, with(kConfig, "\"max_steps\": 4", "\"max_steps\": 1000000"));
  Command sweep(f.folder.path(), f.command("run", {"--only", "0"}));
  const fs::path log = f.folder / "out/full-seed1/metrics.jsonl";
  for (int i = 0; i < 600 && !(fs::exists(log) && fs::file_size(log) > 0); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  sweep.send(SIGINT);
  const Finished stopped = sweep.wait();
  INFO(stopped.err);
  CHECK(stopped.code == 130);
  CHECK(has(stopped.err, "stopped; the same command goes on with it"));
  CHECK_FALSE(fs::is_empty(f.folder / "out/full-seed1/checkpoints"));
  Command again(f.folder.path(), f.command("run", {"--only", "0"}));
  const fs::path text = f.folder / "out/full-seed1.log";
  for (int i = 0; i < 600 && !has(bytes_of(text), "going on"); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  again.send(SIGTERM);
  CHECK(again.wait().code == 143);
  CHECK(has(bytes_of(text), "going on"));
}

TEST_CASE("a Slurm array has a job for each run") {
  const Folder f;
  const Finished script = f.sweep("slurm");
  CHECK(script.code == 0);
  CHECK(has(script.out, "#SBATCH --array=0-9\n"));
  CHECK(has(script.out, "--only \"$SLURM_ARRAY_TASK_ID\""));
  const fs::path file = f.folder.file("array.sh", script.out);
  const Finished job =
      run(f.folder.path(), {"env", "SLURM_ARRAY_TASK_ID=9", "bash", file.string()});
  INFO(job.err);
  CHECK(job.code == 0);
  CHECK(fs::exists(f.folder / "out/MoRA-2-seed2/summary.json"));
  CHECK_FALSE(fs::exists(f.folder / "out/report.md"));
}

TEST_CASE("a wrong sweep file is one line and nothing runs") {
  const auto refused = [](const std::string& sweep, const std::string& expected) {
    const Folder f(sweep);
    const Finished finished = f.sweep("run");
    INFO(finished.err);
    CHECK(finished.code == 2);
    CHECK(has(finished.err, expected));
    CHECK(std::ranges::count(finished.err, '\n') == 1);
    CHECK_FALSE(fs::exists(f.folder / "out"));
  };
  refused("{", "sweep.json: not JSON");
  refused("[]", "expected an object");
  refused(with(kSweep, "\"title\"", "\"titel\""), "/titel: unknown key; known are title");
  refused(with(kSweep, "config.json", "none.json"), "none.json does not exist");
  refused(with(kSweep, "[0, 1]", "[0]"), "/grids/1/0/set: lists of one axis must be equally long");
  refused(with(kSweep, "[\"LoRA\", \"MoRA\"]", "[\"LoRA\", \"LoRA\"]"),
          "expected 2 different labels");
  refused(with(kSweep, "\"adapter.r\": [1, 2]", "\"adapter.r\": []"),
          "/grids/1/1/set: expected lists");
  refused(with(kSweep, "[1, 2],\n  \"after\"", "[1, 1],\n  \"after\""),
          "there are two runs full-seed1");
}

TEST_SUITE_END();

}  // namespace mora::testing
