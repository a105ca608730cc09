// add, scale_by, cast, swiglu and its gradient: one pass over memory each.
#include "backend/cpu/kernels.hpp"
#include "backend/cpu/simd.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

namespace {

// body(i) for every element, in pieces.
template <class Body>
void each(int64_t n, const Body& body) {
  parallel_pieces(n, kStreamPiece, [&](int64_t begin, int64_t end) {
#pragma GCC ivdep
    for (int64_t i = begin; i < end; ++i) body(i);
  });
}

template <class From, class To>
void cast_elements(const Tensor& from, const Tensor& to) {
  const auto* x = ptr<const From>(from);
  auto* y = ptr<To>(to);
  each(to.elements(), [=](int64_t i) { y[i] = value_as<To>(x[i]); });
}

template <class From>
void cast_from(const Tensor& from, const Tensor& to) {
  switch (to.dtype()) {
    case DType::f32:
      return cast_elements<From, float>(from, to);
    case DType::bf16:
      return cast_elements<From, bf16>(from, to);
    case DType::f16:
      return cast_elements<From, f16>(from, to);
    case DType::f64:
      return cast_elements<From, double>(from, to);
    case DType::i32:
      return;
  }
}

}  // namespace

// y = a + b
template <class T>
void add(const KernelArgs& args) {
  const auto *a = ptr<const T>(args.in[0]), *b = ptr<const T>(args.in[1]);
  auto* y = ptr<T>(args.out[0]);
  each(args.out[0].elements(), [=](int64_t i) { y[i] = a[i] + b[i]; });
}

// y = x * factor[0]
template <class T>
void scale_by(const KernelArgs& args) {
  const auto* x = ptr<const T>(args.in[0]);
  const T factor = ptr<const T>(args.in[1])[0];
  auto* y = ptr<T>(args.out[0]);
  each(args.out[0].elements(), [=](int64_t i) { y[i] = x[i] * factor; });
}

// y = x in another type
template <class T>
void cast(const KernelArgs& args) {
  switch (args.in[0].dtype()) {
    case DType::f32:
      return cast_from<float>(args.in[0], args.out[0]);
    case DType::bf16:
      return cast_from<bf16>(args.in[0], args.out[0]);
    case DType::f16:
      return cast_from<f16>(args.in[0], args.out[0]);
    case DType::f64:
      return cast_from<double>(args.in[0], args.out[0]);
    case DType::i32:
      return;
  }
}

// y = g * sigmoid(g) * u
template <class T>
void swiglu(const KernelArgs& args) {
  const auto *g = ptr<const T>(args.in[0]), *u = ptr<const T>(args.in[1]);
  auto* y = ptr<T>(args.out[0]);
  each(args.out[0].elements(), [=](int64_t i) { y[i] = g[i] * sigmoid(g[i]) * u[i]; });
}

// With s = sigmoid(g):  dg = dy * u * s * (1 + g (1 - s)),  du = dy * g * s
template <class T>
void swiglu_grad(const KernelArgs& args) {
  const auto *g = ptr<const T>(args.in[0]), *u = ptr<const T>(args.in[1]),
             *dy = ptr<const T>(args.in[2]);
  auto *dg = ptr<T>(args.out[0]), *du = ptr<T>(args.out[1]);
  const int64_t n = args.in[0].elements();
  if (dg != nullptr && du != nullptr) {
    each(n, [=](int64_t i) {
      const T s = sigmoid(g[i]), d = dy[i];
      du[i] = d * g[i] * s;
      dg[i] = d * u[i] * s * (T(1) + g[i] * (T(1) - s));
    });
  } else if (dg != nullptr) {
    each(n, [=](int64_t i) {
      const T s = sigmoid(g[i]);
      dg[i] = dy[i] * u[i] * s * (T(1) + g[i] * (T(1) - s));
    });
  } else if (du != nullptr) {
    each(n, [=](int64_t i) { du[i] = dy[i] * g[i] * sigmoid(g[i]); });
  }
}

MORA_CPU_KERNEL(add)
MORA_CPU_KERNEL(scale_by)
MORA_CPU_KERNEL(cast)
MORA_CPU_KERNEL(swiglu)
MORA_CPU_KERNEL(swiglu_grad)

}  // namespace mora::cpu
