#include "tasks/held_out.hpp"

#include <algorithm>
#include <cmath>

#include "mora/eval/loss.hpp"

namespace mora::tasks {

Scores held_out_loss(const ScoredModel& scored, const ExampleSource& examples,
                     const EvalConfig& config) {
  if (examples.size() == 0)
    fail(ErrorKind::usage,
         "data.validation_files: there is nothing to score; name at least one file");
  const MeanLoss mean = mean_loss(scored.model, scored.store, examples, config.num_samples,
                                  config.batch_size, scored.backend, scored.workspace);
  const int64_t n =
      config.num_samples > 0 ? std::min(config.num_samples, examples.size()) : examples.size();
  return {n, {{"eval_loss", mean.loss}, {"perplexity", std::exp(mean.loss)}}};
}

TokenCache token_cache(const RunConfig& config, std::string format) {
  const std::filesystem::path& folder = config.data.cache_dir;
  const bool named = folder != DataConfig::kDefaultCache;  // else the run has no place
  return {.folder = named ? folder : std::filesystem::path(),
          .tokenizer = config.model.tokenizer.empty() ? config.model.path : config.model.tokenizer,
          .format = std::move(format)};
}

}  // namespace mora::tasks
