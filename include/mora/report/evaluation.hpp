// What an evaluation leaves: LABEL.json, its summary, and LABEL.jsonl, a line for each sample.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "mora/benchmarks/run.hpp"
#include "mora/io/record.hpp"
#include "mora/tasks/task.hpp"

namespace mora {

struct Evaluation {
  std::string label;     // of its files and its rows in tables: "mmlu-5shot"
  std::string name;      // the benchmark's, or the task's
  std::string settings;  // a JSON object: all of its configuration
  int64_t n = 0;
  std::vector<Measurement> measurements = {};
  std::vector<Record> samples = {};
  std::vector<std::string> groups = {};  // of the questions themselves
};

Evaluation evaluation_of(const BenchmarkConfig& config, const Benchmark& benchmark,
                         const BenchmarkResult& result);

// A task's own score; its label is kTaskLabel, whatever the task.
Evaluation evaluation_of(const RunConfig& config, const Scores& scores);

// Writes both files. `about` begins the summary: which model and adapter.
void write_evaluation(const std::filesystem::path& folder, const Record& about,
                      const Evaluation& evaluation);

// Removes the files that write_evaluation left there, and no others: those that come in pairs.
void remove_evaluations(const std::filesystem::path& folder);

// All totals in one record: those of a benchmark as "LABEL/METRIC", with "LABEL/METRIC_stderr" and
// "LABEL/n", those of the task under their own names, with "samples".
Record totals(std::span<const Evaluation> evaluations);

// One table, columns aligned. Of an evaluation with more than a dozen groups only those that hold
// several groups of questions (MMLU's categories) are shown.
std::string evaluation_table(std::span<const Evaluation> evaluations);

// The totals that a run's folder `eval` has of benchmarks: "LABEL METRIC" and the value as text, in
// the order of the labels. Nothing where there is no such folder; Error(data) for a file that
// write_evaluation did not write.
std::vector<std::pair<std::string, std::string>> benchmark_totals(
    const std::filesystem::path& eval_folder);

}  // namespace mora
