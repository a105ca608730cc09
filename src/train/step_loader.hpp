// Prepares the data of the next optimizer step in a thread of its own while the current one trains,
// so that no step waits for the disk. At most two steps' batches exist at a time.
#pragma once

#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "mora/data/batch.hpp"
#include "mora/data/micro_batches.hpp"
#include "mora/train/example_source.hpp"

namespace mora {

class StepLoader {
 public:
  // `micro_batches` of a step, each of `capacity` token slots; there are `steps` in all. `data`
  // must outlive this.
  StepLoader(const ExampleSource& data, std::unique_ptr<MicroBatches> order, int64_t micro_batches,
             int64_t capacity, int64_t steps);
  ~StepLoader();
  StepLoader(const StepLoader&) = delete;
  StepLoader& operator=(const StepLoader&) = delete;

  // The batches of a step, valid until the next call; the step after it is prepared meanwhile.
  // Throws what reading the data threw.
  std::span<const Batch> at(int64_t step);

 private:
  struct Prepared {
    std::vector<Batch> batches;
    int64_t step = -1;  // none yet
    std::exception_ptr error;
  };
  void fill(Prepared& slot, int64_t step);
  void work();

  const ExampleSource& data_;
  std::unique_ptr<MicroBatches> order_;  // used by whoever fills
  int64_t steps_;
  Prepared current_, next_;

  std::mutex mutex_;
  std::condition_variable changed_;
  int64_t wanted_ = -1;  // what the thread fills next_ with; -1: nothing
  bool ends_ = false;
  std::thread thread_;
};

}  // namespace mora
