// Instruction tuning and mathematical reasoning: questions with answers, formatted as prompts,
// trained on the answers; scored by the loss on held-out rows.
#include "mora/data/supervised.hpp"

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

PromptFormat make_format(const RunConfig& config, const Tokenizer& tokenizer) {
  const std::string& name = config.data.prompt_format;
  if (name == "chat") return make_chat_format(config, tokenizer);
  std::string eos = tokenizer.eos() ? tokenizer.piece(*tokenizer.eos()) : "";
  if (name == "alpaca") return alpaca_format(std::move(eos));
  if (name == "tulu") return tulu_format(std::move(eos));
  return plain_format(std::move(eos));
}

class Examples final : public ExampleSource {
 public:
  explicit Examples(SupervisedData data) : data_(std::move(data)) {}
  int64_t size() const override { return data_.examples.size(); }
  ExampleView example(int64_t index) const override { return data_.examples[index]; }
  const SupervisedData& data() const { return data_; }

 private:
  SupervisedData data_;
};

Examples read_examples(const RunConfig& config, const Tokenizer& tokenizer,
                       const std::vector<fs::path>& files) {
  if (files.empty()) return Examples({});
  const DataConfig& d = config.data;
  return Examples(
      read_supervised(tokenizer,
                      {.files = files,
                       .layout = d.layout,
                       .columns = d.columns,
                       .bad_rows = d.bad_rows == "skip" ? BadRows::skip : BadRows::error},
                      make_format(config, tokenizer),
                      {.max_length = d.max_length,
                       .too_long = d.too_long == "drop" ? TooLong::drop : TooLong::truncate,
                       .train_on = d.train_on == "all" ? TrainOn::all : TrainOn::completion,
                       .max_samples = d.max_samples}));
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
