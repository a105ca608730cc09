// mora-generate: text from a model, for a prompt, a file of prompts, or in a conversation.
#include "apps/command_line.hpp"
#include "apps/generate.hpp"
#include "apps/waiting.hpp"
#include "mora/backend/backend.hpp"

namespace {

using mora::apps::GenerateCommand;

void declare_input(CLI::App& app, GenerateCommand& c) {
  app.add_option("--model", c.model, "Hugging Face folder of the model")->required();
  app.add_option("--adapter", c.adapter, "adapter folder");
  auto* prompt = app.add_option("--prompt", c.prompt, "one prompt; - reads standard input");
  auto* chat = app.add_flag("--chat", c.chat, "a conversation: one message a line");
  auto* prompts = app.add_option(
      "--prompts", c.prompts, "file of prompts: .jsonl with prompt or messages, else one a line");
  prompt->excludes(chat)->excludes(prompts);
  chat->excludes(prompts);
  auto* name = app.add_option("--chat-template", c.chat_template,
                              "built-in chat template or file (default: the model's own)");
  auto* system = app.add_option("--system", c.system, "system message");
  app.add_flag("--raw", c.raw, "continue prompts as they are, without a chat template")
      ->excludes(name)
      ->excludes(system)
      ->excludes(chat);
}

void declare_sampling(CLI::App& app, GenerateCommand& c) {
  app.add_option("--max-new-tokens", c.max_new_tokens, "end an answer here (default 256)")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 30));
  app.add_option("--temperature", c.temperature, "0: greedy");
  app.add_option("--top-k", c.top_k, "choose among the k most likely tokens; 0: all");
  app.add_option("--top-p", c.top_p, "choose among the most likely tokens with this probability");
  app.add_option("--repetition-penalty", c.repetition_penalty,
                 "divides the logits of tokens that were there; 1: none");
  app.add_option("--seed", c.seed, "of the random choices (default 0)");
  app.add_option("--stop", c.stops, "end an answer before this text (repeatable)")
      ->expected(1)
      ->take_all()
      ->allow_extra_args(false);
}

int body(int argc, char** argv) {
  CLI::App app("Continues prompts, or answers them, with a LLaMA-style model.", "mora-generate");
  GenerateCommand c;
  declare_input(app, c);
  declare_sampling(app, c);
  app.add_option("--json", c.json, "write prompts and answers to this file, one object a line");
  app.add_option("--threads", c.threads, "threads to use (default: OpenMP's choice)")
      ->check(CLI::Range(1, 1024));
  app.add_option("--device", c.device, "what computes (default: cpu)")
      ->check(CLI::IsMember(mora::devices()));
  app.add_option("--dtype", c.dtype, "type of the weights in memory")
      ->check(CLI::IsMember({"float32", "bfloat16", "auto"}));
  app.add_option("--batch-size", c.batch_size, "prompts of a file at once (default 8)")
      ->check(CLI::Range(1, 4096));
  app.add_option("--context", c.context, "longest conversation in tokens (default 4096)")
      ->check(CLI::Range(int64_t{16}, int64_t{1} << 30));
  app.set_version_flag("--version", mora::apps::version_text("mora-generate"));
  if (mora::apps::parse_command_line(app, argc, argv) == mora::apps::Next::stop) return 0;
  if (!c.chat && !c.prompt && c.prompts.empty())
    mora::fail(mora::ErrorKind::usage, "needs --prompt TEXT, --prompts FILE or --chat; see --help");
  for (const std::string& stop : c.stops) {
    if (stop.empty()) mora::fail(mora::ErrorKind::usage, "--stop: the text is empty");
  }
  return mora::apps::generate(c);
}

}  // namespace

int main(int argc, char** argv) {
  mora::apps::settle_waiting(argv);
  return mora::apps::guarded("mora-generate", body, argc, argv);
}
