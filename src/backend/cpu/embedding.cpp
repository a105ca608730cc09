// Rows of a table, and their gradient.
#include <algorithm>

#include "backend/cpu/kernels.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

namespace {

template <class Stored, class T>
void gather(const KernelArgs& args) {
  const auto* table = ptr<const Stored>(args.in[0]);
  const auto* ids = ptr<const int32_t>(args.in[1]);
  auto* y = ptr<T>(args.out[0]);
  const int64_t width = args.out[0].shape().last();
  parallel_pieces(args.out[0].shape()[0], rows_per_piece(width), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const Stored* row = table + int64_t{ids[t]} * width;
      for (int64_t d = 0; d < width; ++d) y[t * width + d] = value_as<T>(row[d]);
    }
  });
}

}  // namespace

// y[t, :] = table[ids[t], :]
template <class T>
void embedding(const KernelArgs& args) {
  switch (args.in[0].dtype()) {
    case DType::bf16:
      return gather<bf16, T>(args);
    case DType::f16:
      return gather<f16, T>(args);
    default:
      return gather<T, T>(args);
  }
}

// dtable[v, :] = sum of dy[t, :] over t with ids[t] = v, in the order of t; parallel over columns.
template <class T>
void embedding_grad(const KernelArgs& args) {
  const auto* dy = ptr<const T>(args.in[0]);
  const auto* ids = ptr<const int32_t>(args.in[1]);
  auto* out = ptr<T>(args.out[0]);
  const int64_t tokens = args.in[0].shape()[0], width = args.in[0].shape().last(),
                rows = args.out[0].shape()[0];
  parallel_pieces(width, 64, [&](int64_t begin, int64_t end) {
    for (int64_t v = 0; v < rows; ++v)
      std::fill(out + v * width + begin, out + v * width + end, T(0));
    for (int64_t t = 0; t < tokens; ++t) {
      T* row = out + int64_t{ids[t]} * width;
      for (int64_t d = begin; d < end; ++d) row[d] += dy[t * width + d];
    }
  });
}

MORA_CPU_KERNEL(embedding)
MORA_CPU_KERNEL(embedding_grad)

}  // namespace mora::cpu
