// The score that every task of text has: the loss on held-out examples.
#pragma once

#include "mora/tasks/task.hpp"

namespace mora::tasks {

// eval_loss and perplexity over the first config.num_samples examples (0: all). Error(usage) when
// there are none.
Scores held_out_loss(const ScoredModel& scored, const ExampleSource& examples,
                     const EvalConfig& config);

}  // namespace mora::tasks
