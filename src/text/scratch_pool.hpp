// What encoding and decoding write to, for one thread at a time: as many as were ever in use at
// once are kept.
#pragma once

#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace mora {

template <class Scratch>
class ScratchPool {
 public:
  // One that no other thread has; it goes back at the end of the scope.
  auto take() {
    auto give_back = [this](Scratch* scratch) {
      std::unique_ptr<Scratch> owned(scratch);
      const std::lock_guard lock(mutex_);
      free_.push_back(std::move(owned));
    };
    std::unique_ptr<Scratch> scratch;
    {
      const std::lock_guard lock(mutex_);
      if (!free_.empty()) {
        scratch = std::move(free_.back());
        free_.pop_back();
      }
    }
    if (!scratch) scratch = std::make_unique<Scratch>();
    return std::unique_ptr<Scratch, decltype(give_back)>(scratch.release(), give_back);
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Scratch>> free_;
};

}  // namespace mora
