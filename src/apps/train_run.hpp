// One training run from configuration to summary, with its folder:
//
//   <output_dir>/run_config.json   the resolved configuration
//                metrics.jsonl     one line per logged step and evaluation
//                checkpoints/      see train/checkpoint.hpp
//                adapter/ or model/ (of full training, and of a run that merges its adapters)
//                data the task needs to be scored again, summary.json
#pragma once

#include "mora/config/run_config.hpp"

namespace mora::apps {

// What to do with an earlier run in the same folder. resume: go on after its newest whole
// checkpoint to the same results bit for bit, or start when there is none.
enum class Existing { refuse, replace, resume };

// yes: steps after the first are timed operation by operation, and the tables of report/profile
// are printed at the end and left in profile.json.
enum class Profiling { no, yes };

// Returns the exit code: 0, or 130/143 when a signal stopped it after a checkpoint.
int train_run(const RunConfig& config, Existing existing, Profiling profiling);

}  // namespace mora::apps
