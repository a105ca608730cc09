// Task: the data of a run and how its result is scored. Trainer and evaluator know nothing else
// about it.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "mora/config/run_config.hpp"
#include "mora/eval/generator.hpp"
#include "mora/eval/scored_model.hpp"
#include "mora/io/record.hpp"
#include "mora/text/tokenizer.hpp"
#include "mora/train/example_source.hpp"

namespace mora {

struct Score {
  std::string name;  // "character_accuracy"
  double value;
  double standard_error = -1;  // negative: none
};

struct Scores {
  int64_t samples = 0;
  std::vector<Score> values;
  std::vector<Record> records = {};  // one a sample: its index, what was scored and how
};

class Task {
 public:
  virtual ~Task() = default;

  virtual const ExampleSource& train_data() const = 0;
  virtual Scores score(const ScoredModel& scored, const EvalConfig& config) const = 0;

  // Error where something that score() reads or makes does not fit a model with so many positions.
  // score() asks this itself; a run does before it trains.
  virtual void check_positions(int64_t positions, const EvalConfig& config) const = 0;

  // Whether score() has anything to score (pretraining without validation files has not).
  virtual bool can_score() const { return true; }

  // Lines for the start of a run: what the data are and what of them is trained. May be empty.
  virtual std::string data_report() const { return ""; }

  // Writes what is needed to score the run again later; nothing where the configuration says it
  // all.
  virtual void save_data(const std::filesystem::path& folder) const { static_cast<void>(folder); }
};

// What the task's data are for: training needs all of it, scoring only what is scored.
enum class TaskUse { training, scoring };

// The tokenizer must outlive the task.
std::unique_ptr<Task> make_task(const RunConfig& config, const Tokenizer& tokenizer, TaskUse use);

}  // namespace mora
