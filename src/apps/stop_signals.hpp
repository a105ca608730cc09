// SIGINT and SIGTERM, received by a thread of their own. No handler is installed: oneDNN's matrix
// kernels point the stack register into the heap while they run, so that a handler on a computing
// thread would write its frame over the heap.
#pragma once

#include <atomic>
#include <csignal>
#include <thread>

namespace mora::apps {

// Construct it before the first parallel region: threads inherit which signals are blocked. A first
// signal ends the program at once until defer() is called; from then on it is only noted, and a
// second one ends the program.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  void defer() { deferred_ = true; }
  void immediate() { deferred_ = false; }  // the first signal ends the program again
  int received() const { return received_; }  // 0: none

 private:
  void wait();

  sigset_t before_{};
  std::atomic<bool> deferred_ = false, done_ = false;
  std::atomic<int> received_ = 0;
  std::thread waiting_;
};

}  // namespace mora::apps
