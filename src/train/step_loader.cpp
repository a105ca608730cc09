#include "train/step_loader.hpp"

#include <utility>

namespace mora {

StepLoader::StepLoader(const ExampleSource& data, std::unique_ptr<MicroBatches> order,
                       int64_t micro_batches, int64_t capacity, int64_t steps)
    : data_(data), order_(std::move(order)), steps_(steps) {
  for (Prepared* slot : {&current_, &next_})
    slot->batches.assign(static_cast<size_t>(micro_batches), Batch(capacity));
  thread_ = std::thread([this] { work(); });
}

StepLoader::~StepLoader() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void StepLoader::fill(Prepared& slot, int64_t step) {
  slot.step = step;
  slot.error = nullptr;
  try {
    int64_t index = step * static_cast<int64_t>(slot.batches.size());
    for (Batch& batch : slot.batches) {
      batch.clear();
      for (const int64_t example : order_->at(index++)) batch.append(data_.example(example));
    }
  } catch (...) {
    slot.error = std::current_exception();
  }
}

void StepLoader::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return ends_ || wanted_ >= 0; });
    if (ends_) return;
    const int64_t step = wanted_;
    lock.unlock();
    fill(next_, step);
    lock.lock();
    wanted_ = -1;
    changed_.notify_all();
  }
}

std::span<const Batch> StepLoader::at(int64_t step) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return wanted_ < 0; });  // nobody fills now
  if (current_.step != step) {
    if (next_.step != step) fill(next_, step);
    std::swap(current_, next_);
  }
  if (current_.error) std::rethrow_exception(current_.error);
  if (step + 1 < steps_ && next_.step != step + 1) {
    wanted_ = step + 1;
    changed_.notify_all();
  }
  return current_.batches;
}

}  // namespace mora
