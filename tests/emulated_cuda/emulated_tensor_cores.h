// What backend/cuda/tensor_cores.hpp calls where there are no tensor cores. Fragments are laid out
// as that header says; copies are made as late as a device may make them, when they are waited for.
#pragma once

#include <cstdint>

namespace emulated {

struct PairOfB {
  uint32_t b0, b1;
};
void mma(float (&d)[4], const uint32_t (&a)[4], PairOfB b);
void load_matrices(uint32_t (&out)[4], const void* row);
void load_matrices_transposed(uint32_t (&out)[4], const void* row);

// The first `bytes` of `room` bytes are copied, the others become 0.
void begin_copy(void* to, const void* from, int room, int bytes);
void wait_for_copies();

}  // namespace emulated
