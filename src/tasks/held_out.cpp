#include "tasks/held_out.hpp"

#include <algorithm>
#include <cmath>

#include "mora/eval/loss.hpp"

namespace mora::tasks {

namespace {

// The mean over all tokens, with the standard error of a ratio of sums over samples; s / sqrt(n)
// where all samples have as many tokens.
Score mean_over_tokens(std::span<const MeanLoss> samples) {
  const MeanLoss all = mean_loss(samples);
  Score mean{.name = "eval_loss", .value = all.loss};
  double squares = 0;
  for (const MeanLoss& s : samples) {
    const double difference = s.tokens * (s.loss - all.loss);
    squares += difference * difference;
  }
  const auto n = static_cast<double>(samples.size());
  if (n > 1 && all.tokens > 0) mean.standard_error = std::sqrt(squares * n / (n - 1)) / all.tokens;
  return mean;
}

}  // namespace

Scores held_out_loss(const ScoredModel& scored, const ExampleSource& examples,
                     const EvalConfig& config) {
  if (examples.size() == 0)
    fail(ErrorKind::usage,
         "data.validation_files: there is nothing to score; name at least one file");
  const std::vector<MeanLoss> losses =
      example_losses(scored.model, scored.store, examples, config.num_samples, config.batch_size,
                     scored.backend, scored.workspace);
  const Score mean = mean_over_tokens(losses);
  const double perplexity = std::exp(mean.value);
  Scores scores{.samples = static_cast<int64_t>(losses.size()),
                .values = {mean,
                           {"perplexity", perplexity,
                            mean.standard_error < 0 ? -1 : perplexity * mean.standard_error}}};
  for (size_t i = 0; i < losses.size(); ++i) {
    scores.records.push_back({{"index", static_cast<int64_t>(i)},
                              {"tokens", losses[i].tokens},
                              {"loss", losses[i].loss}});
  }
  return scores;
}

TokenCache token_cache(const RunConfig& config, std::string format) {
  const std::filesystem::path& folder = config.data.cache_dir;
  const bool named = folder != DataConfig::kDefaultCache;  // else the run has no place
  return {.folder = named ? folder : std::filesystem::path(),
          .tokenizer = config.model.tokenizer.empty() ? config.model.path : config.model.tokenizer,
          .format = std::move(format)};
}

}  // namespace mora::tasks
