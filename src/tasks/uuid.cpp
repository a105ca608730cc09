// Memorizing UUID pairs (paper section 3): train on `key:value`, score by greedy generation after
// `key:`.
#include <algorithm>
#include <span>

#include "benchmarks/statistics.hpp"
#include "mora/data/data_report.hpp"
#include "mora/data/uuid_pairs.hpp"
#include "tasks/tasks.hpp"

namespace mora::tasks {

namespace {

constexpr size_t kUuidLength = 36;

class UuidExamples final : public ExampleSource {
 public:
  UuidExamples(const Tokenizer& tokenizer, std::span<const UuidPair> pairs, LossOn loss_on) {
    for (const UuidPair& pair : pairs) examples_.push_back(uuid_example(tokenizer, pair, loss_on));
  }
  int64_t size() const override { return static_cast<int64_t>(examples_.size()); }
  ExampleView example(int64_t index) const override {
    return ExampleView(examples_[static_cast<size_t>(index)]);
  }

 private:
  std::vector<Example> examples_;
};

std::vector<UuidPair> load_pairs(const DataConfig& data) {
  if (data.file.empty())
    return generate_uuid_pairs(static_cast<uint64_t>(data.data_seed), data.pairs);
  std::vector<UuidPair> pairs = read_uuid_pairs(data.file);
  if (pairs.empty()) fail(ErrorKind::data, data.file.string(), ": holds no pairs");
  return pairs;
}

int64_t longest_of(std::span<const std::vector<int32_t>> prompts) {
  size_t longest = 0;
  for (const std::vector<int32_t>& prompt : prompts) longest = std::max(longest, prompt.size());
  return static_cast<int64_t>(longest);
}

class UuidTask final : public Task {
 public:
  UuidTask(const RunConfig& config, const Tokenizer& tokenizer)
      : tokenizer_(tokenizer),
        pairs_(load_pairs(config.data)),
        examples_(tokenizer, pairs_, config.data.loss_on == "value" ? LossOn::value : LossOn::all) {
  }

  const ExampleSource& train_data() const override { return examples_; }
  std::string data_report() const override {
    const auto example = [&](int64_t i) { return examples_.example(i); };
    return report_samples(tokenizer_, count_samples(examples_.size(), example, tokenizer_.eos()),
                          str("of ", pairs_.size(), " pairs"), "", example(0));
  }

  Scores score(const ScoredModel& scored, const EvalConfig& config) const override {
    check_positions(scored.model.longest(), config);
    const auto prompts = asked(config);
    const auto n = static_cast<int64_t>(prompts.size());
    Generator generator(scored.model, scored.store,
                        {.batch_size = std::min(config.batch_size, n),
                         .capacity = longest_of(prompts) + config.max_new_tokens},
                        scored.backend, scored.workspace);
    const auto continuations =
        generator.generate(prompts, {.max_new_tokens = config.max_new_tokens,
                                     .finished = [this](size_t, std::span<const int32_t> tokens) {
                                       return tokenizer_.decode(tokens).size() >= kUuidLength;
                                     }});
    return judged(continuations);
  }

  void check_positions(int64_t positions, const EvalConfig& config) const override {
    const int64_t longest = longest_of(asked(config));
    if (longest + config.max_new_tokens > positions) {
      fail(ErrorKind::usage, "eval.max_new_tokens is ", config.max_new_tokens,
           " and the longest prompt has ", longest, " tokens, but the model has ", positions,
           " positions (max_position_embeddings); lower eval.max_new_tokens");
    }
  }

  void save_data(const std::filesystem::path& folder) const override {
    write_uuid_pairs(folder / "uuid_pairs.jsonl", pairs_);
  }

 private:
  std::vector<std::vector<int32_t>> asked(const EvalConfig& config) const {
    const size_t n = config.num_samples > 0
                         ? std::min(pairs_.size(), static_cast<size_t>(config.num_samples))
                         : pairs_.size();
    std::vector<std::vector<int32_t>> prompts;
    for (size_t i = 0; i < n; ++i) prompts.push_back(uuid_prompt(tokenizer_, pairs_[i].key));
    return prompts;
  }

  // The scores of the first pairs by what the model said to their keys.
  Scores judged(std::span<const std::vector<int32_t>> continuations) const {
    std::vector<double> accuracy, exact;
    Scores scores{.samples = static_cast<int64_t>(continuations.size()), .values = {}};
    for (size_t i = 0; i < continuations.size(); ++i) {
      const UuidPair& pair = pairs_[i];
      const std::string text = tokenizer_.decode(continuations[i]).substr(0, kUuidLength);
      accuracy.push_back(uuid_character_accuracy(text, pair.value));
      exact.push_back(text == pair.value ? 1 : 0);
      scores.records.push_back({{"index", static_cast<int64_t>(i)},
                                {"prompt", pair.key + ":"},
                                {"answer", pair.value},
                                {"prediction", text},
                                {"character_accuracy", accuracy.back()},
                                {"exact_match", exact.back()}});
    }
    for (const auto& [name, values] :
         {std::pair("character_accuracy", accuracy), std::pair("exact_match", exact)}) {
      const Measurement mean = benchmarks::mean_of(name, "", values);
      scores.values.push_back({name, mean.value, mean.standard_error});
    }
    return scores;
  }

  const Tokenizer& tokenizer_;
  std::vector<UuidPair> pairs_;
  UuidExamples examples_;
};

}  // namespace

std::unique_ptr<Task> make_uuid(const RunConfig& config, const Tokenizer& tokenizer, TaskUse) {
  return std::make_unique<UuidTask>(config, tokenizer);
}

}  // namespace mora::tasks
