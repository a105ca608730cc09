// Pretraining, from scratch or continued, on plain text: documents joined with EOS and cut into
// blocks; scored by the loss on held-out text.
#include "mora/data/data_report.hpp"
#include "mora/data/text_blocks.hpp"
#include "tasks/held_out.hpp"
#include "tasks/tasks.hpp"

namespace mora::tasks {

namespace {

namespace fs = std::filesystem;

class BlockExamples final : public ExampleSource {
 public:
  BlockExamples() = default;
  BlockExamples(const RunConfig& config, const Tokenizer& tokenizer,
                const std::vector<fs::path>& files);

  int64_t size() const override { return blocks_.size(); }
  ExampleView example(int64_t index) const override { return blocks_[index]; }
  std::string sha256() const override { return blocks_.documents().sha256(); }
  std::string report(const Tokenizer& tokenizer) const;

 private:
  TextBlocks blocks_;
  RowCounts rows_;
  std::string origin_;
  SampleCounts counts_;
};

AddBos add_bos_of(const std::string& name) {
  return name == "always" ? AddBos::always : name == "never" ? AddBos::never : AddBos::automatic;
}

BlockExamples::BlockExamples(const RunConfig& config, const Tokenizer& tokenizer,
                             const std::vector<fs::path>& files) {
  const DataConfig& d = config.data;
  DocumentTokens tokens =
      tokenize_documents(tokenizer,
                         {.files = files,
                          .field = d.text_field,
                          .unit = d.txt_documents == "line" ? TextUnit::line : TextUnit::file,
                          .bad_rows = d.bad_rows == "skip" ? BadRows::skip : BadRows::error,
                          .vocab_size = tokenizer.vocab_size()},
                         add_bos_of(d.add_bos), token_cache(config));
  const std::string name =
      str(files.front().string(), files.size() > 1 ? " and the other text files" : "");
  const int64_t found = tokens.documents.tokens();
  blocks_ = TextBlocks(
      std::move(tokens.documents), d.block_size,
      d.document_attention == "within" ? DocumentAttention::within : DocumentAttention::across);
  rows_ = std::move(tokens.rows);
  origin_ = std::move(tokens.origin);
  if (blocks_.size() == 0) {
    fail(ErrorKind::data, name, ": ", found, " tokens, fewer than one block of ", d.block_size,
         " (data.block_size); give more text or a smaller block",
         rows_.skipped > 0 ? str("; ", rows_.skipped, " bad rows, the first: ", rows_.first_problem)
                           : "");
  }
  counts_ = count_samples(
      blocks_.size(), [&](int64_t i) { return blocks_[i]; }, tokenizer.eos());
  if (counts_.trained_tokens == 0)
    fail(ErrorKind::data, name, ": no token is trained: all labels are -100");
}

std::string BlockExamples::report(const Tokenizer& tokenizer) const {
  std::string out =
      report_samples(tokenizer, counts_, str("of ", blocks_.documents().size(), " documents"),
                     str("; dropped: ", blocks_.dropped_tokens(), " tokens at the end, ",
                         rows_.skipped, " bad rows"),
                     blocks_[0]);
  if (rows_.skipped > 0) out += str("the first bad row: ", rows_.first_problem, "\n");
  return out + origin_;
}

BlockExamples read_blocks(const RunConfig& config, const Tokenizer& tokenizer,
                          const std::vector<fs::path>& files) {
  return files.empty() ? BlockExamples() : BlockExamples(config, tokenizer, files);
}

class PretrainTask final : public Task {
 public:
  PretrainTask(const RunConfig& config, const Tokenizer& tokenizer, TaskUse use)
      : tokenizer_(tokenizer),
        train_(read_blocks(
            config, tokenizer,
            use == TaskUse::training ? config.data.train_files : std::vector<fs::path>{})),
        validation_(read_blocks(config, tokenizer, config.data.validation_files)) {}

  const ExampleSource& train_data() const override { return train_; }
  bool can_score() const override { return validation_.size() > 0; }
  std::string data_report() const override { return train_.report(tokenizer_); }

  Scores score(const ScoredModel& scored, const EvalConfig& config) const override {
    return held_out_loss(scored, validation_, config);
  }
  void check_positions(int64_t positions, const EvalConfig& config) const override {
    check_lengths(validation_, config.num_samples, positions, "held-out");
  }

 private:
  const Tokenizer& tokenizer_;
  BlockExamples train_, validation_;
};

}  // namespace

std::unique_ptr<Task> make_pretrain(const RunConfig& config, const Tokenizer& tokenizer,
                                    TaskUse use) {
  return std::make_unique<PretrainTask>(config, tokenizer, use);
}

}  // namespace mora::tasks
