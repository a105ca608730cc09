// mora-train: trains as a configuration says.
#include "apps/command_line.hpp"
#include "apps/train_run.hpp"
#include "apps/waiting.hpp"

namespace {

int body(int argc, char** argv) {
  CLI::App app(
      "Trains a LLaMA-style model with LoRA, MoRA or in full, as a JSON configuration says.",
      "mora-train");
  std::string file;
  std::vector<std::string> overrides;
  int threads = 0;
  bool print_config = false, document = false, overwrite = false, resume = false, profile = false;
  app.add_option("--config", file, "the run's JSON file");
  app.add_option("--set", overrides,
                 "override one field: --set train.learning_rate=1e-4 (repeatable)")
      ->type_name("A.B=VALUE")
      ->take_all()
      ->expected(1)
      ->allow_extra_args(false);
  app.add_option("--threads", threads, "threads to use (default: OpenMP's choice)")
      ->check(CLI::Range(1, 1024));
  app.add_flag("--print-config", print_config, "print the resolved configuration and exit");
  app.add_flag("--document-config", document,
               "print every field with default, range and description, and exit");
  app.add_flag("--overwrite", overwrite, "replace an earlier run in the output folder");
  app.add_flag("--resume", resume,
               "go on after the newest checkpoint in the output folder; start when there is none")
      ->excludes("--overwrite");
  app.add_flag("--profile", profile,
               "time every operation and print, at the end, where the time went");
  app.set_version_flag("--version", mora::apps::version_text("mora-train"));
  if (mora::apps::parse_command_line(app, argc, argv) == mora::apps::Next::stop) return 0;
  if (document) {
    mora::apps::print(mora::document_config());
    return 0;
  }
  if (file.empty()) mora::fail(mora::ErrorKind::usage, "--config FILE is needed; see --help");
  if (threads > 0) overrides.push_back("engine.threads=" + std::to_string(threads));
  mora::RunConfig config;
  mora::parse_config(file, overrides, config);
  if (print_config) {
    mora::apps::print(mora::to_json_text(config));
    return 0;
  }
  using mora::apps::Existing, mora::apps::Profiling;
  return mora::apps::train_run(config,
                               overwrite ? Existing::replace
                               : resume  ? Existing::resume
                                         : Existing::refuse,
                               profile ? Profiling::yes : Profiling::no);
}

}  // namespace

int main(int argc, char** argv) {
  mora::apps::settle_waiting(argv);
  return mora::apps::guarded("mora-train", body, argc, argv);
}
