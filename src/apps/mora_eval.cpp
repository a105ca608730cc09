// mora-eval: scores a finished run, or any model and adapter, on its task and on benchmarks, and
// compares runs in one table.
#include <chrono>
#include <cstdio>

#include "apps/command_line.hpp"
#include "apps/generate.hpp"
#include "apps/waiting.hpp"
#include "mora/adapters/files.hpp"
#include "mora/backend/backend.hpp"
#include "mora/io/file.hpp"
#include "mora/report/evaluation.hpp"
#include "mora/report/metrics.hpp"

namespace {

namespace fs = std::filesystem;

struct Options {
  std::string config, model, adapter, task, data, json, output;
  std::vector<std::string> overrides, compare;
  std::vector<std::string> benchmark;  // "name=mmlu" ...; empty: none
  std::string device;                  // empty: as configured
  int threads = 0;
};

// The configuration of what is scored: a run's own, or one put together from the command line. A
// benchmark of the command line is the only one.
mora::RunConfig scored_config(const Options& o) {
  mora::RunConfig config;
  if (!o.config.empty()) {
    mora::parse_config(o.config, o.overrides, config);
  } else {
    config.task = o.task;
    config.model.path = o.model;
    config.output_dir = o.model;
  }
  if (!o.benchmark.empty()) {
    config.eval.benchmarks = {mora::parse_benchmark(o.benchmark)};
  } else if (!o.config.empty() ? !o.data.empty() : o.task == "uuid") {
    config.data.file = o.data;
  } else if (o.config.empty()) {
    config.data.validation_files = {o.data};
  }
  if (o.threads > 0) config.engine.threads = o.threads;
  if (!o.device.empty()) config.engine.device = o.device;
  return config;
}

// What was trained: --adapter, or what the run of --config left, or nothing.
fs::path adapter_folder(const Options& o, const mora::RunConfig& config) {
  if (!o.adapter.empty()) return o.adapter;
  if (o.config.empty() || config.adapter.method == "full" || config.restart.enabled()) return {};
  return config.output_dir / "adapter";
}

// Where results are written: --output, or the run's folder, unless another adapter than the run's
// last is scored.
fs::path output_folder(const Options& o, const mora::RunConfig& config) {
  if (!o.output.empty()) return o.output;
  return o.config.empty() || !o.adapter.empty() ? fs::path() : config.output_dir / "eval";
}

mora::Evaluation run(const mora::BenchmarkConfig& config, mora::apps::Session& session) {
  const auto benchmark = mora::make_benchmark(config);
  mora::ProgressLine line;
  const auto start = std::chrono::steady_clock::now();
  double shown = 0;
  const auto progress = [&](int64_t done, int64_t total) {
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const double patience = line.rewrites() ? 0.2 : 30;
    if (seconds - shown < patience && (done < total || shown == 0)) return;
    shown = seconds;
    const double left = seconds / static_cast<double>(done) * static_cast<double>(total - done);
    line.show(mora::str(config.shown_label(), ": ", done, " of ", total, " questions  ETA ",
                        mora::duration(left)));
  };
  const auto result = mora::run_benchmark(
      *benchmark, session.scored(),
      {.tokenizer = *session.tokenizer,
       .batch_size = session.config.eval.batch_size,
       .ends = mora::apps::end_tokens(session.config.model.path, *session.tokenizer,
                                      session.model->config().vocab_size),
       .progress = progress});
  return mora::evaluation_of(config, *benchmark, result);
}

// The task's own score, unless there is only something else to score, and all benchmarks.
std::vector<mora::Evaluation> evaluations(const Options& o, mora::apps::Session& session) {
  const mora::RunConfig& config = session.config;
  std::vector<mora::Evaluation> result;
  if (o.benchmark.empty()) {
    const auto task = mora::make_task(config, *session.tokenizer, mora::TaskUse::scoring);
    if (task->can_score() || config.eval.benchmarks.empty())
      result.push_back(mora::evaluation_of(config, task->score(session.scored(), config.eval)));
  }
  for (const mora::BenchmarkConfig& benchmark : config.eval.benchmarks)
    result.push_back(run(benchmark, session));
  return result;
}

int evaluate(const Options& o) {
  mora::RunConfig config = scored_config(o);
  const fs::path adapter = adapter_folder(o, config), output = output_folder(o, config);
  // A checkpoint after a merge has the base of its adapter in it.
  const fs::path own_base = adapter.empty() ? config.output_dir / "model" : adapter / "base";
  if (!o.config.empty() && (adapter.empty() || fs::is_directory(own_base)))
    config.model = {.path = own_base, .config = {}, .tokenizer = {}, .dtype = config.model.dtype};
  if (adapter.empty()) {
    config.adapter.method = "full";
  } else {
    config.adapter = mora::read_adapter_config(adapter);
  }
  mora::apps::Session session(config, mora::Training::frozen);
  if (!adapter.empty()) mora::load_adapter(adapter, *session.store);
  const std::vector<mora::Evaluation> done = evaluations(o, session);
  mora::Record about = {{"model", config.model.path.string()}};
  if (!adapter.empty()) about.emplace_back("adapter", adapter.string());
  if (!output.empty()) {
    for (const mora::Evaluation& e : done) mora::write_evaluation(output, about, e);
  }
  mora::Record record = about;
  if (!config.task.empty()) record.insert(record.begin(), {"task", config.task});
  for (auto& total : mora::totals(done)) record.push_back(std::move(total));
  const std::string line = mora::to_json_line(record) + "\n";
  if (!o.json.empty()) mora::write_file_atomically(o.json, line);
  mora::apps::print(line);
  std::fputs(mora::evaluation_table(done).c_str(), stderr);  // not before an error's one line
  return 0;
}

// Options of a benchmark become settings, which are checked as those of a configuration.
void add_benchmark_options(CLI::App& app, std::vector<std::string>& settings) {
  const auto setting = [&](const std::string& option, const std::string& name, const char* text) {
    return app.add_option_function<std::string>(
        option,
        [&settings, name](const std::string& value) { settings.push_back(name + "=" + value); },
        text);
  };
  auto* benchmark = setting("--benchmark", "name", "benchmark to run; --data: its official files");
  setting("--num-fewshot", "num_fewshot", "solved examples in front of each question")
      ->needs(benchmark);
  setting("--fewshot", "fewshot", "where the examples come from (default: --data)")
      ->needs(benchmark);
  setting("--num-samples", "num_samples", "questions of each subject, from the first")
      ->needs(benchmark);
  setting("--prompt", "prompt", "harness or metamath (only gsm8k)")->needs(benchmark);
  setting("--subjects", "subjects", "subjects to ask, a JSON list (only mmlu)")->needs(benchmark);
  setting("--label", "label", "name of the results (default: as mmlu-5shot)")->needs(benchmark);
}

int body(int argc, char** argv) {
  CLI::App app(
      "Scores a run, or a model with an adapter, on its task and on benchmarks; compares runs.",
      "mora-eval");
  Options o;
  auto* config =
      app.add_option("--config", o.config, "score what the run of this configuration left");
  app.add_option("--set", o.overrides, "override one field of the configuration (repeatable)")
      ->type_name("A.B=VALUE")
      ->take_all()
      ->expected(1)
      ->allow_extra_args(false);
  auto* model =
      app.add_option("--model", o.model, "Hugging Face folder of the model")->excludes(config);
  app.add_option("--adapter", o.adapter, "adapter folder (default: the run's own with --config)");
  app.add_option("--task", o.task, "uuid, pretrain, continual, instruction or math")
      ->needs(model)
      ->check(CLI::IsMember({"uuid", "pretrain", "continual", "instruction", "math"}));
  app.add_option("--data", o.data, "file to score on: UUID pairs as jsonl, or text");
  add_benchmark_options(app, o.benchmark);
  app.add_option("--output", o.output,
                 "folder for results by sample (default: eval in the run's folder with --config)");
  app.add_option("--json", o.json, "also write the result to this file");
  app.add_option("--compare", o.compare, "print one table of these run folders");
  app.add_option("--threads", o.threads, "threads to use (default: OpenMP's choice)")
      ->check(CLI::Range(1, 1024));
  app.add_option("--device", o.device, "what computes (default: cpu, or as configured)")
      ->check(CLI::IsMember(mora::devices()));
  app.set_version_flag("--version", mora::apps::version_text("mora-eval"));
  if (mora::apps::parse_command_line(app, argc, argv) == mora::apps::Next::stop) return 0;
  if (!o.compare.empty()) {
    mora::apps::print(mora::compare_runs({o.compare.begin(), o.compare.end()}));
    return 0;
  }
  const bool named = !o.task.empty() || !o.benchmark.empty();
  if (o.config.empty() && (o.model.empty() || !named || o.data.empty())) {
    mora::fail(mora::ErrorKind::usage,
               "needs --config FILE, or --model DIR with --task or --benchmark and --data; see "
               "--help");
  }
  if (!o.benchmark.empty() && o.data.empty())
    mora::fail(mora::ErrorKind::usage, "--benchmark needs --data, its official files");
  if (!o.benchmark.empty()) o.benchmark.push_back("data=" + o.data);
  return evaluate(o);
}

}  // namespace

int main(int argc, char** argv) {
  mora::apps::settle_waiting(argv);
  return mora::apps::guarded("mora-eval", body, argc, argv);
}
