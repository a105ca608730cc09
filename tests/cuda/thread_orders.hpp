// The order in which the threads of a block run, which must not show in any result: on a device
// there is but its own, the emulator has several.
#pragma once

#ifdef MORA_EMULATED_CUDA
#include <cuda_runtime.h>
#endif

namespace mora::testing {

// Each call another order.
template <class Run>
void run_in_another_order(const Run& run) {
#ifdef MORA_EMULATED_CUDA
  using emulated::Order;
  static int calls = 0;
  constexpr Order kOrders[] = {Order::forward, Order::backward, Order::shuffled};
  emulated::set_order(kOrders[calls++ % 3]);
  run();
  emulated::set_order(Order::forward);
#else
  run();
#endif
}

}  // namespace mora::testing
