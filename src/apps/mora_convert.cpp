// mora-convert: models and adapters from one format to another.
#include "apps/command_line.hpp"
#include "apps/convert.hpp"
#include "apps/waiting.hpp"

namespace {

const std::vector<mora::apps::Conversion>& conversions() {
  static const std::vector<mora::apps::Conversion> all = {
      {"adapter", "An adapter to another format", mora::apps::declare_adapter},
      {"gguf-to-hf", "A LLaMA in GGUF to a Hugging Face folder", mora::apps::declare_gguf_to_hf},
      {"hf-to-gguf", "A Hugging Face folder of a LLaMA to GGUF", mora::apps::declare_hf_to_gguf},
      {"merge", "A base model and an adapter to one model", mora::apps::declare_merge},
  };
  return all;
}

int body(int argc, char** argv) {
  CLI::App app("Converts models and adapters.", "mora-convert");
  app.set_version_flag("--version", mora::apps::version_text("mora-convert"));
  app.require_subcommand(1);
  std::function<int()> chosen;
  for (const mora::apps::Conversion& c : conversions()) {
    CLI::App* command = app.add_subcommand(c.name, c.description);
    command->callback([&chosen, run = c.declare(*command)] { chosen = run; });
  }
  if (mora::apps::parse_command_line(app, argc, argv) == mora::apps::Next::stop) return 0;
  return chosen();
}

}  // namespace

int main(int argc, char** argv) {
  mora::apps::settle_waiting(argv);
  return mora::apps::guarded("mora-convert", body, argc, argv);
}
