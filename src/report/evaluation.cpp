#include "mora/report/evaluation.hpp"

#include <algorithm>
#include <cstdio>

#include "io/json.hpp"
#include "mora/io/file.hpp"
#include "report/table.hpp"

namespace mora {

namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxSummaryBytes = size_t{16} << 20;
constexpr size_t kManyGroups = 12;

// LABEL.json of each evaluation in the folder, by label; none where there is no folder.
std::vector<fs::path> summaries_in(const fs::path& folder) {
  std::vector<fs::path> files;
  if (!fs::is_directory(folder)) return files;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".json") files.push_back(entry.path());
  }
  std::ranges::sort(files);
  return files;
}

std::string four_digits(double value) {
  return number(value, "%.4f");
}

Json summary_of(const Record& about, const Evaluation& e) {
  const char* kind = e.label == kTaskLabel ? "task" : "benchmark";
  Json json = Json::object();
  json[kind] = e.name;
  json.update(parse_json(to_json_line(about), "record"));
  json["settings"] = parse_json(e.settings, "settings");
  json["n"] = e.n;
  json["metrics"] = Json::array();
  for (const Measurement& m : e.measurements) {
    Json metric = Json::object();
    metric["name"] = m.name;
    if (!m.group.empty()) metric["group"] = m.group;
    metric["n"] = m.n;
    metric["value"] = json_number(m.value);
    if (m.standard_error >= 0) metric["standard_error"] = json_number(m.standard_error);
    json["metrics"].push_back(std::move(metric));
  }
  return json;
}

bool is_shown(const Evaluation& e, const Measurement& m) {
  return m.group.empty() || e.groups.size() <= kManyGroups ||
         std::ranges::find(e.groups, m.group) == e.groups.end();
}

}  // namespace

Evaluation evaluation_of(const BenchmarkConfig& config, const Benchmark& benchmark,
                         const BenchmarkResult& result) {
  BenchmarkConfig settings = config;
  const std::vector<Question>& questions = benchmark.questions();
  const std::vector<std::string> measures = benchmark.measures();
  Evaluation e{.label = config.shown_label(),
               .name = config.name,
               .settings = print_fields([&](Fields& f) { settings.fields(f); }),
               .n = static_cast<int64_t>(questions.size()),
               .measurements = result.summary};
  for (size_t i = 0; i < questions.size(); ++i) {
    const Question& q = questions[i];
    Record sample = {{"index", static_cast<int64_t>(i)},
                     {"group", q.group},
                     {"prompt", q.prompt},
                     {"answer", q.answer},
                     {"prediction", result.judgements[i].prediction}};
    for (size_t m = 0; m < measures.size(); ++m)
      sample.emplace_back(measures[m], result.judgements[i].scores[m]);
    if (q.choices.empty()) {
      sample.emplace_back("continuation", result.replies[i].text);
    } else {
      sample.emplace_back("log_likelihoods", result.replies[i].log_likelihoods);
    }
    e.samples.push_back(std::move(sample));
    if (std::ranges::find(e.groups, q.group) == e.groups.end()) e.groups.push_back(q.group);
  }
  return e;
}

Evaluation evaluation_of(const RunConfig& config, const Scores& scores) {
  EvalConfig settings = config.eval;
  settings.benchmarks.clear();
  Evaluation e{.label = kTaskLabel,
               .name = config.task,
               .settings = print_fields([&](Fields& f) { settings.fields(f); }),
               .n = scores.samples,
               .samples = scores.records};
  for (const Score& s : scores.values)
    e.measurements.push_back({s.name, "", scores.samples, s.value, s.standard_error});
  return e;
}

void write_evaluation(const fs::path& folder, const Record& about, const Evaluation& evaluation) {
  fs::create_directories(folder);
  AtomicFile samples(folder / (evaluation.label + ".jsonl"));
  for (const Record& sample : evaluation.samples) samples.write(to_json_line(sample) + "\n");
  samples.commit();
  write_file_atomically(folder / (evaluation.label + ".json"),
                        dump_json(summary_of(about, evaluation), 2) + "\n");
}

void remove_evaluations(const fs::path& folder) {
  for (const fs::path& summary : summaries_in(folder)) {
    fs::path samples = summary;
    if (!fs::exists(samples.replace_extension(".jsonl"))) continue;
    fs::remove(summary);
    fs::remove(samples);
  }
}

Record totals(std::span<const Evaluation> evaluations) {
  Record record;
  for (const Evaluation& e : evaluations) {
    const bool task = e.label == kTaskLabel;
    const std::string prefix = task ? "" : e.label + "/";
    record.emplace_back(task ? "samples" : prefix + "n", e.n);
    for (const Measurement& m : e.measurements) {
      if (!m.group.empty()) continue;
      record.emplace_back(prefix + m.name, m.value);
      if (!task && m.standard_error >= 0)
        record.emplace_back(prefix + m.name + "_stderr", m.standard_error);
    }
  }
  return record;
}

std::string evaluation_table(std::span<const Evaluation> evaluations) {
  std::vector<std::vector<std::string>> rows = {
      {"evaluation", "group", "n", "metric", "value", "stderr"}};
  for (const Evaluation& e : evaluations) {
    for (const Measurement& m : e.measurements) {
      if (!is_shown(e, m)) continue;
      rows.push_back({e.label == kTaskLabel ? e.name : e.label, m.group, std::to_string(m.n),
                      m.name, four_digits(m.value),
                      m.standard_error < 0 ? "" : four_digits(m.standard_error)});
    }
  }
  return aligned(rows);
}

std::vector<std::pair<std::string, std::string>> benchmark_totals(const fs::path& eval_folder) {
  std::vector<std::pair<std::string, std::string>> result;
  for (const fs::path& file : summaries_in(eval_folder)) {
    const std::string label = file.stem().string();
    if (label == kTaskLabel) continue;
    const Json json = parse_json(read_file(file, kMaxSummaryBytes), file.string());
    for (const JsonView& metric : JsonView(json, file.string()).at("metrics").items()) {
      if (metric.has("group")) continue;
      std::string value = four_digits(metric.at("value").any_number());
      if (metric.has("standard_error"))
        value += " +- " + four_digits(metric.at("standard_error").any_number());
      result.emplace_back(label + " " + metric.at("name").string(), std::move(value));
    }
  }
  return result;
}

}  // namespace mora
