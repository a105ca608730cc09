// What every task of text has: a score by the loss on held-out examples, and a token cache.
#pragma once

#include "mora/data/token_cache.hpp"
#include "mora/tasks/task.hpp"

namespace mora::tasks {

// eval_loss and perplexity, with each sample's loss and trained tokens, over the first
// config.num_samples examples (0: all). Error(usage) when there are none, and as example_losses().
Scores held_out_loss(const ScoredModel& scored, const ExampleSource& examples,
                     const EvalConfig& config);

// Where the tokens of a run's data are kept. `format` as in TokenCache.
TokenCache token_cache(const RunConfig& config, std::string format = {});

}  // namespace mora::tasks
