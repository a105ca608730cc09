// The table of several runs.
#include <algorithm>
#include <cstdio>

#include "io/json.hpp"
#include "mora/io/file.hpp"
#include "mora/io/text.hpp"
#include "mora/report/evaluation.hpp"
#include "mora/report/metrics.hpp"
#include "report/table.hpp"

namespace mora {

namespace {

// The last part of a folder's path, also of "runs/lora/" and ".".
std::string name_of(const std::filesystem::path& folder) {
  const std::filesystem::path whole = std::filesystem::absolute(folder).lexically_normal();
  const std::filesystem::path name = whole.filename();
  return printable((name.empty() ? whole.parent_path().filename() : name).string());
}

std::string cell(const JsonView& summary, const std::string& key) {
  if (!summary.has(key)) return "-";
  const Json& json = summary.at(key).json();
  if (json.is_string()) return json.get<std::string>();
  if (json.is_number_integer()) return std::to_string(json.get<int64_t>());
  const double value = summary.at(key).any_number();
  if (key.ends_with("accuracy") || key.ends_with("exact_match"))
    return number(100 * value, "%.1f%%");
  return number(value, key == "seconds" ? "%.1f" : "%.4f");
}

}  // namespace

std::string compare_runs(const std::vector<std::filesystem::path>& run_folders) {
  const std::vector<std::string> candidates = {
      "method", "operator",  "rank",       "trainable_parameters", "steps",
      "loss",   "eval_loss", "perplexity", "character_accuracy",   "exact_match",
      "seconds"};
  std::vector<Json> documents;
  std::vector<std::vector<std::pair<std::string, std::string>>> benchmarks;
  for (const auto& folder : run_folders) {
    const auto file = folder / "summary.json";
    documents.push_back(parse_json(read_file(file, size_t{1} << 20), file.string()));
    benchmarks.push_back(benchmark_totals(folder / "eval"));
  }
  std::vector<std::string> columns;
  for (const std::string& key : candidates) {
    if (std::ranges::any_of(documents, [&](const Json& d) { return d.contains(key); }))
      columns.push_back(key);
  }
  std::vector<std::vector<std::string>> rows = {columns};
  for (std::string& title : rows[0]) std::ranges::replace(title, '_', ' ');
  rows[0].insert(rows[0].begin(), "run");
  std::vector<std::string> totals;  // of any run's benchmarks
  for (const auto& of_run : benchmarks) {
    for (const auto& [title, value] : of_run) {
      if (std::ranges::find(totals, title) == totals.end()) totals.push_back(title);
    }
  }
  rows[0].insert(rows[0].end(), totals.begin(), totals.end());
  for (size_t i = 0; i < documents.size(); ++i) {
    const JsonView summary(documents[i], (run_folders[i] / "summary.json").string());
    std::vector<std::string> row = {name_of(run_folders[i])};
    for (const std::string& key : columns) row.push_back(cell(summary, key));
    for (const std::string& title : totals) {
      const auto found =
          std::ranges::find(benchmarks[i], title, &std::pair<std::string, std::string>::first);
      row.push_back(found == benchmarks[i].end() ? "-" : found->second);
    }
    rows.push_back(std::move(row));
  }
  return aligned(rows);
}

}  // namespace mora
