// Instruction tuning and mathematical reasoning: questions with answers, formatted as prompts,
// trained on the answers; scored by the loss on held-out rows.
#include "mora/data/supervised.hpp"

#include "mora/io/sha256.hpp"
#include "mora/text/chat_template.hpp"
#include "tasks/held_out.hpp"
#include "tasks/tasks.hpp"

namespace mora::tasks {

namespace {

namespace fs = std::filesystem;

PromptFormat make_chat_format(const RunConfig& config, const Tokenizer& tokenizer) {
  const std::string& name = config.data.chat_template;
  const fs::path folder =
      config.model.tokenizer.empty() || !fs::is_directory(config.model.tokenizer)
          ? config.model.path
          : config.model.tokenizer;
  ModelChat chat =
      read_model_chat(folder, tokenizer, name.empty() ? UseTemplate::yes : UseTemplate::no);
  if (!name.empty()) chat.chat_template = open_chat_template(name);
  if (!chat.chat_template) {
    std::string names;
    for (const std::string_view n : built_in_chat_templates())
      names += str(names.empty() ? "" : ", ", n);
    fail(ErrorKind::usage,
         "data.chat_template: the model has no chat template; name a file or one "
         "of ",
         names);
  }
  return chat_format(std::move(chat));
}

struct NamedFormat {
  PromptFormat format;
  std::string identity;  // what makes it differ from others, for the token cache
};

// The template itself, where it is in a file; the model's own is among the tokenizer's files.
std::string template_identity(const std::string& name) {
  std::error_code none;
  const bool file = !name.empty() && fs::is_regular_file(name, none);
  return file ? str("chat ", sha256_of_file(name)) : str("chat ", name);
}

NamedFormat make_format(const RunConfig& config, const Tokenizer& tokenizer) {
  const std::string& name = config.data.prompt_format;
  if (name == "chat") {
    const fs::path& own = config.model.path;  // of the model, where the tokenizer is a file
    return {make_chat_format(config, tokenizer),
            str(template_identity(config.data.chat_template), " ",
                own.empty() ? "" : tokenizer_sha256(own))};
  }
  std::string eos = tokenizer.eos() ? tokenizer.piece(*tokenizer.eos()) : "";
  if (name == "alpaca") return {alpaca_format(std::move(eos)), name};
  if (name == "tulu") return {tulu_format(std::move(eos)), name};
  return {plain_format(std::move(eos)), name};
}

class Examples final : public ExampleSource {
 public:
  Examples(SupervisedData data, int64_t packed_length)
      : data_(std::move(data)), packed_length_(packed_length) {}
  int64_t size() const override { return data_.examples.size(); }
  ExampleView example(int64_t index) const override { return data_.examples[index]; }
  std::string sha256() const override { return data_.examples.sha256(); }
  int64_t packed_length() const override { return packed_length_; }
  const SupervisedData& data() const { return data_; }

 private:
  SupervisedData data_;
  int64_t packed_length_;
};

Examples read_examples(const RunConfig& config, const Tokenizer& tokenizer,
                       const std::vector<fs::path>& files) {
  if (files.empty()) return Examples({}, 0);
  const DataConfig& d = config.data;
  NamedFormat format = make_format(config, tokenizer);
  return Examples(
      read_supervised(tokenizer,
                      {.files = files,
                       .layout = d.layout,
                       .columns = d.columns,
                       .bad_rows = d.bad_rows == "skip" ? BadRows::skip : BadRows::error,
                       .vocab_size = tokenizer.vocab_size()},
                      format.format,
                      {.max_length = d.max_length,
                       .too_long = d.too_long == "drop" ? TooLong::drop : TooLong::truncate,
                       .train_on = d.train_on == "all" ? TrainOn::all : TrainOn::completion,
                       .max_samples = d.max_samples},
                      token_cache(config, std::move(format.identity))),
      d.packing ? d.max_length : 0);
}

class SupervisedTask final : public Task {
 public:
  SupervisedTask(const RunConfig& config, const Tokenizer& tokenizer, TaskUse use)
      : tokenizer_(tokenizer),
        train_(read_examples(
            config, tokenizer,
            use == TaskUse::training ? config.data.train_files : std::vector<fs::path>{})),
        validation_(read_examples(config, tokenizer, config.data.validation_files)) {}

  const ExampleSource& train_data() const override { return train_; }
  bool can_score() const override { return validation_.size() > 0; }
  std::string data_report() const override { return report(tokenizer_, train_.data()); }

  Scores score(const ScoredModel& scored, const EvalConfig& config) const override {
    return held_out_loss(scored, validation_, config);
  }
  void check_positions(int64_t positions, const EvalConfig& config) const override {
    check_lengths(validation_, config.num_samples, positions, "held-out");
  }

 private:
  const Tokenizer& tokenizer_;
  Examples train_, validation_;
};

}  // namespace

std::unique_ptr<Task> make_supervised(const RunConfig& config, const Tokenizer& tokenizer,
                                      TaskUse use) {
  return std::make_unique<SupervisedTask>(config, tokenizer, use);
}

}  // namespace mora::tasks
