// mora-inspect: what a file or folder of weights holds, and how a model was changed.
#include "apps/command_line.hpp"
#include "apps/waiting.hpp"
#include "mora/io/file.hpp"
#include "mora/report/inspect.hpp"

namespace {

int body(int argc, char** argv) {
  CLI::App app(
      "Shows what a file or folder of weights holds: tensors, sizes, hashes; and the singular "
      "values of the updates of an adapter or between two models.",
      "mora-inspect");
  app.set_version_flag("--version", mora::apps::version_text("mora-inspect"));
  mora::InspectOptions options;
  std::string path, other, model, json;
  app.add_option("PATH", path,
                 "a safetensors or GGUF file, or the folder of a model, an adapter, a checkpoint "
                 "or a run")
      ->required();
  app.add_option("SECOND", other, "a later version of the same model: shows what has changed");
  app.add_option("--model", model,
                 "an adapter's base; without it the folder that the adapter names, if it is here");
  app.add_option("--json", json, "write the whole report to this file, too");
  app.add_option("--threshold", options.threshold, "count singular values above this")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  app.add_option("--top", options.top, "show so many of the largest singular values")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{0}, int64_t{1000}));
  if (mora::apps::parse_command_line(app, argc, argv) == mora::apps::Next::stop) return 0;
  options.path = path;
  options.other = other;
  options.model = model;
  const mora::Inspection inspection = mora::inspect(options);
  if (!json.empty()) mora::write_file_atomically(json, inspection.json);
  mora::apps::print(inspection.text);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  mora::apps::settle_waiting(argv);
  return mora::apps::guarded("mora-inspect", body, argc, argv);
}
