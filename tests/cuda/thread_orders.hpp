// Ways to run the threads of a block that must not show in any result: on a device there is but its
// own, the emulator has several.
#pragma once

#ifdef MORA_EMULATED_CUDA
#include <cuda_runtime.h>
#endif

namespace mora::testing {

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
