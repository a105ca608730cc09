// The backend that the tests of this folder run on: the device, or, compiled against emulated_cuda/,
// the processor. Without a device they say so and are skipped.
#pragma once

#include <cstdio>
#include <memory>

#include "backend/cuda.hpp"
#ifdef MORA_EMULATED_CUDA
#include <cuda_runtime.h>
#endif

namespace mora::testing {

// What tensors of a test are bound to must be made while it lives.
class DeviceUnderTest {
 public:
  DeviceUnderTest() {
    try {
      backend_ = make_cuda_backend();
      memory_ = std::make_unique<UseMemory>(backend_->memory());
    } catch (const Error& e) {
      std::printf("skipped: no CUDA device: %s\n", e.what());
    }
  }
  explicit operator bool() const { return backend_ != nullptr; }
  const Backend& operator*() const { return *backend_; }

 private:
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<UseMemory> memory_;
};

// Ways to run the threads of a block that must not show in any result: on a device there is but its
// own.
template <class Check>
void in_any_order(const Check& check) {
#ifdef MORA_EMULATED_CUDA
  for (const auto order :
       {emulated::Order::backward, emulated::Order::shuffled, emulated::Order::forward}) {
    emulated::set_order(order);
    check();
  }
#else
  check();
#endif
}

}  // namespace mora::testing
