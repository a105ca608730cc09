// What a run leaves for programs and for people: metrics.jsonl, summary.json, a live line and
// tables.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "mora/io/record.hpp"

namespace mora {

// Appends records to a file, one a line, each flushed to the system.
class MetricsLog {
 public:
  // Keeps at most the first `keep` bytes of what the file holds.
  MetricsLog(const std::filesystem::path& file, int64_t keep);
  ~MetricsLog();
  MetricsLog(const MetricsLog&) = delete;
  MetricsLog& operator=(const MetricsLog&) = delete;
  void write(const Record& record);
  int64_t sync() const;  // puts all of it on the disk; the file's length

 private:
  std::filesystem::path file_;
  int descriptor_;
};

// Progress on stderr: one line that is rewritten on a terminal, plain lines elsewhere.
class ProgressLine {
 public:
  ProgressLine();
  ~ProgressLine();  // ends an open line
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  bool rewrites() const { return terminal_; }
  void show(const std::string& text);
  void end();

 private:
  bool terminal_;
  size_t width_ = 0;
};

// "1:05" or "2:03:04"
std::string duration(double seconds);

// One table of several runs' summary.json, columns aligned: the run folder's name, method,
// operator, rank, trainable parameters, steps, loss, the scores, seconds, and what mora-eval wrote
// of benchmarks.
std::string compare_runs(const std::vector<std::filesystem::path>& run_folders);

}  // namespace mora
