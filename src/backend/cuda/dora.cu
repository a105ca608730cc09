// dora: y = (g - 1) * base + g * low_rank with g = magnitude / norm, and its gradient.
//   base, low_rank, y, dy: [T, N]  magnitude, norm, g: [N]
#include "backend/cuda/column_sums.hpp"
#include "backend/cuda/kernels.hpp"
#include "backend/cuda/over_packs.hpp"

namespace mora::cuda {

template <class S>
void dora(const KernelArgs& args) {
  using T = Working<S>;
  const auto *base = ptr<const S>(args.in[0]), *low_rank = ptr<const S>(args.in[1]);
  const auto *magnitude = ptr<const T>(args.in[2]), *norm = ptr<const T>(args.in[3]);
  auto* y = ptr<S>(args.out[0]);
  const int64_t rows = args.in[0].shape()[0], width = args.in[0].shape()[1];
  over_rows<kLanes<S>>(
      {rows, width, width}, access_to(base, low_rank, magnitude, norm, y),
      [=] __device__(int64_t t, int64_t column, auto lanes) {
        const int64_t at = t * width + column;
        const auto g = load(magnitude + column, lanes) / load(norm + column, lanes);
        store(y + at, (g - T(1)) * load(base + at, lanes) + g * load(low_rank + at, lanes), lanes);
      });
}

Prepared prepare_dora_grad(const OpCall& call) {
  if (!call.read[2]) return {};
  const Shape& base = call.in[0].shape;
  return prepare_column_sums(base[0], base[1], call.out[2].dtype);
}

namespace {

template <class S>
struct DoraGradient {
  using T = Working<S>;
  const S *base, *low_rank;
  const T *magnitude, *norm;
  const S* dy;
  S *d_base, *d_low_rank;
  T* d_magnitude;
  Rows rows;

  // d base = (g - 1) dy,  d low_rank = g dy
  template <class L>
  __device__ void write_inputs(int64_t at, int64_t column, const Vec<T, L::kCount>& d,
                               L lanes) const {
    if (d_base == nullptr && d_low_rank == nullptr) return;
    const auto g = load(magnitude + column, lanes) / load(norm + column, lanes);
    if (d_base != nullptr) store(d_base + at, (g - T(1)) * d, lanes);
    if (d_low_rank != nullptr) store(d_low_rank + at, g * d, lanes);
  }
};

template <class S>
void input_gradients(const DoraGradient<S>& g, Access access) {
  over_rows<kLanes<S>>(g.rows, access, [=] __device__(int64_t t, int64_t column, auto lanes) {
    const int64_t at = t * g.rows.width + column;
    g.write_inputs(at, column, load(g.dy + at, lanes), lanes);
  });
}

// d magnitude = sum of the rows dy * (base + low_rank) / norm, and those of the inputs on the way.
template <class S>
void all_gradients(const DoraGradient<S>& g, Access access, void* scratch) {
  sum_columns<kLanes<S>>(g.rows, access, g.d_magnitude, scratch,
                         [=] __device__(int64_t t, int64_t column, auto lanes) {
                           const int64_t at = t * g.rows.width + column;
                           const auto d = load(g.dy + at, lanes);
                           const auto term =
                               d * (load(g.base + at, lanes) + load(g.low_rank + at, lanes));
                           g.write_inputs(at, column, d, lanes);
                           return term / load(g.norm + column, lanes);
                         });
}

}  // namespace

template <class S>
void dora_grad(const KernelArgs& args) {
  using T = Working<S>;
  const int64_t rows = args.in[0].shape()[0], width = args.in[0].shape()[1];
  const DoraGradient<S> g{.base = ptr<const S>(args.in[0]),
                          .low_rank = ptr<const S>(args.in[1]),
                          .magnitude = ptr<const T>(args.in[2]),
                          .norm = ptr<const T>(args.in[3]),
                          .dy = ptr<const S>(args.in[4]),
                          .d_base = ptr<S>(args.out[0]),
                          .d_low_rank = ptr<S>(args.out[1]),
                          .d_magnitude = ptr<T>(args.out[2]),
                          .rows = {rows, width, width}};
  const Access access = access_to(g.base, g.low_rank, g.magnitude, g.norm, g.dy, g.d_base,
                                  g.d_low_rank, g.d_magnitude);
  if (g.d_magnitude != nullptr) return all_gradients(g, access, args.scratch);
  input_gradients(g, access);
}

MORA_CUDA_ACTIVATION_KERNEL(dora)
MORA_CUDA_ACTIVATION_KERNEL(dora_grad)

}  // namespace mora::cuda
