// mora-eval: scores a finished run, or any model and adapter, and compares runs in one table.
#include "apps/command_line.hpp"
#include "apps/waiting.hpp"
#include "mora/adapters/files.hpp"
#include "mora/io/file.hpp"
#include "mora/report/metrics.hpp"

namespace {

namespace fs = std::filesystem;

struct Options {
  std::string config, model, adapter, task, data, json;
  std::vector<std::string> overrides, compare;
  int threads = 0;
};

// The configuration of what is scored: a run's own, or one put together from the command line.
mora::RunConfig scored_config(const Options& o) {
  mora::RunConfig config;
  if (!o.config.empty()) {
    mora::parse_config(o.config, o.overrides, config);
    if (!o.data.empty()) config.data.file = o.data;
    return config;
  }
  config.task = o.task;
  config.model.path = o.model;
  config.output_dir = o.model;
  if (o.task != "uuid") {
    config.data.validation_files = {o.data};
  } else {
    config.data.file = o.data;
  }
  return config;
}

// What was trained: --adapter, or what the run of --config left, or nothing.
fs::path adapter_folder(const Options& o, const mora::RunConfig& config) {
  if (!o.adapter.empty()) return o.adapter;
  if (o.config.empty() || config.adapter.method == "full" || config.restart.enabled()) return {};
  return config.output_dir / "adapter";
}

int evaluate(const Options& o) {
  mora::RunConfig config = scored_config(o);
  if (o.threads > 0) config.engine.threads = o.threads;
  const fs::path adapter = adapter_folder(o, config);
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
  const auto task = mora::make_task(config, *session.tokenizer, mora::TaskUse::scoring);
  const mora::Scores scores = task->score(session.scored(), config.eval);
  mora::Record record = {{"task", config.task}, {"model", config.model.path.string()}};
  if (!adapter.empty()) record.emplace_back("adapter", adapter.string());
  record.emplace_back("samples", scores.samples);
  for (const mora::Score& s : scores.values) record.emplace_back(s.name, s.value);
  const std::string line = mora::to_json_line(record) + "\n";
  if (!o.json.empty()) mora::write_file_atomically(o.json, line);
  mora::apps::print(line);
  return 0;
}

int body(int argc, char** argv) {
  CLI::App app("Scores a run, or a model with an adapter, on its task; compares runs.",
               "mora-eval");
  Options o;
  auto* config =
      app.add_option("--config", o.config, "score what the run of this configuration left");
  app.add_option("--set", o.overrides, "override one field of the configuration (repeatable)")
      ->type_name("A.B=VALUE")
      ->expected(1)
      ->allow_extra_args(false);
  auto* model =
      app.add_option("--model", o.model, "Hugging Face folder of the model")->excludes(config);
  app.add_option("--adapter", o.adapter, "adapter folder (default: the run's own with --config)");
  app.add_option("--task", o.task, "uuid, pretrain, continual, instruction or math")
      ->needs(model)
      ->check(CLI::IsMember({"uuid", "pretrain", "continual", "instruction", "math"}));
  app.add_option("--data", o.data, "file to score on: UUID pairs as jsonl, or text");
  app.add_option("--json", o.json, "also write the result to this file");
  app.add_option("--compare", o.compare, "print one table of these run folders");
  app.add_option("--threads", o.threads, "threads to use (default: OpenMP's choice)")
      ->check(CLI::Range(1, 1024));
  app.set_version_flag("--version", mora::apps::version_text("mora-eval"));
  if (mora::apps::parse_command_line(app, argc, argv) == mora::apps::Next::stop) return 0;
  if (!o.compare.empty()) {
    mora::apps::print(mora::compare_runs({o.compare.begin(), o.compare.end()}));
    return 0;
  }
  if (o.config.empty() && (o.model.empty() || o.task.empty() || o.data.empty())) {
    mora::fail(mora::ErrorKind::usage,
               "needs --config FILE, or --model DIR with --task and --data; see --help");
  }
  return evaluate(o);
}

}  // namespace

int main(int argc, char** argv) {
  mora::apps::settle_waiting(argv);
  return mora::apps::guarded("mora-eval", body, argc, argv);
}
