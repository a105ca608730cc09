#include "apps/stop_signals.hpp"

#include <pthread.h>

#include <cstdlib>

namespace mora::apps {

namespace {

sigset_t stop_set() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}

}  // namespace

StopSignals::StopSignals() {
  const sigset_t set = stop_set();
  pthread_sigmask(SIG_BLOCK, &set, &before_);
  waiting_ = std::thread([this] { wait(); });
}

StopSignals::~StopSignals() {
  done_ = true;
  pthread_kill(waiting_.native_handle(), SIGINT);  // wakes it
  waiting_.join();
  pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

void StopSignals::wait() {
  const sigset_t set = stop_set();
  for (int signal = 0; sigwait(&set, &signal) == 0 && !done_;) {
    if (!deferred_ || received_ != 0) std::_Exit(128 + signal);
    received_ = signal;
  }
}

}  // namespace mora::apps
