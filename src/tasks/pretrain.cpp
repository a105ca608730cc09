// Pretraining, from scratch or continued, on plain text: documents joined with EOS and cut into
// blocks; scored by the loss on held-out text.
#include "mora/data/text_blocks.hpp"
#include "tasks/held_out.hpp"
#include "tasks/tasks.hpp"

namespace mora::tasks {

namespace {

class BlockExamples final : public ExampleSource {
 public:
  explicit BlockExamples(TextBlocks blocks) : blocks_(std::move(blocks)) {}
  int64_t size() const override { return blocks_.count(); }
  ExampleView example(int64_t index) const override { return ExampleView(blocks_.tokens(index)); }

 private:
  TextBlocks blocks_;
};

BlockExamples read_blocks(const RunConfig& config, const Tokenizer& tokenizer,
                          const std::vector<std::filesystem::path>& files) {
  if (files.empty()) return BlockExamples(TextBlocks({}, config.data.block_size));
  BlockExamples examples(read_text_blocks(
      tokenizer, {.files = files, .field = config.data.text_field}, config.data.block_size));
  if (examples.size() == 0) {
    fail(ErrorKind::data, files.front().string(), ": the text is shorter than one block of ",
         config.data.block_size, " tokens (data.block_size)");
  }
  return examples;
}

class PretrainTask final : public Task {
 public:
  PretrainTask(const RunConfig& config, const Tokenizer& tokenizer, TaskUse use)
      : train_(read_blocks(config, tokenizer,
                           use == TaskUse::training ? config.data.train_files
                                                    : std::vector<std::filesystem::path>{})),
        validation_(read_blocks(config, tokenizer, config.data.validation_files)) {}

  const ExampleSource& train_data() const override { return train_; }
  bool can_score() const override { return validation_.size() > 0; }

  Scores score(const ScoredModel& scored, const EvalConfig& config) const override {
    return held_out_loss(scored, validation_, config);
  }

 private:
  BlockExamples train_, validation_;
};

}  // namespace

std::unique_ptr<Task> make_pretrain(const RunConfig& config, const Tokenizer& tokenizer,
                                    TaskUse use) {
  return std::make_unique<PretrainTask>(config, tokenizer, use);
}

}  // namespace mora::tasks
