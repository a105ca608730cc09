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

namespace {

template <class A, class B>
void add_stored(const KernelArgs& args) {
  using T = Working<A>;
  const auto* a = ptr<const A>(args.in[0]);
  const auto* b = ptr<const B>(args.in[1]);
  auto* y = ptr<A>(args.out[0]);
  each(args.out[0].elements(),
       [=](int64_t i) { y[i] = value_as<A>(value_as<T>(a[i]) + value_as<T>(b[i])); });
}

}  // namespace

// y = a + b
template <class S>
void add(const KernelArgs& args) {
  if (args.in[1].dtype() != args.in[0].dtype()) return add_stored<S, bf16>(args);
  add_stored<S, S>(args);
}

// y = x * factor[0]
template <class S>
void scale_by(const KernelArgs& args) {
  using T = Working<S>;
  const auto* x = ptr<const S>(args.in[0]);
  const T factor = ptr<const T>(args.in[1])[0];
  auto* y = ptr<S>(args.out[0]);
  each(args.out[0].elements(), [=](int64_t i) { y[i] = value_as<S>(value_as<T>(x[i]) * factor); });
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

namespace {

// body(i, n) for the n elements of each vector from i on.
template <class T, class Body>
void each_vector(int64_t size, const Body& body) {
  parallel_pieces(size, kStreamPiece, [&](int64_t begin, int64_t end) {
    int64_t i = begin;
    for (; i + kLanes<T> <= end; i += kLanes<T>) body(i, kLanes<T>);
    if (i < end) body(i, end - i);
  });
}

}  // namespace

// y = g * sigmoid(g) * u
template <class S>
void swiglu(const KernelArgs& args) {
  using T = Working<S>;
  const auto *g = ptr<const S>(args.in[0]), *u = ptr<const S>(args.in[1]);
  auto* y = ptr<S>(args.out[0]);
  each_vector<T>(args.out[0].elements(), [=](int64_t i, int64_t n) {
    ask_ahead(g + i);
    ask_ahead(u + i);
    const Vec<T> gate = load(g + i, n);
    store(y + i, gate * sigmoid_for<S>(gate) * load(u + i, n), n);
  });
}

// With s = sigmoid(g):  dg = dy * u * s * (1 + g (1 - s)),  du = dy * g * s
template <class S>
void swiglu_grad(const KernelArgs& args) {
  using T = Working<S>;
  const auto *g = ptr<const S>(args.in[0]), *u = ptr<const S>(args.in[1]),
             *dy = ptr<const S>(args.in[2]);
  auto *dg = ptr<S>(args.out[0]), *du = ptr<S>(args.out[1]);
  each_vector<T>(args.in[0].elements(), [=](int64_t i, int64_t n) {
    ask_ahead(g + i);
    ask_ahead(u + i);
    ask_ahead(dy + i);
    const Vec<T> gate = load(g + i, n), up = load(u + i, n), d = load(dy + i, n),
                 s = sigmoid_for<S>(gate);
    if (du != nullptr) store(du + i, d * gate * s, n);
    if (dg != nullptr) store(dg + i, d * up * s * (T(1) + gate * (T(1) - s)), n);
  });
}

MORA_CPU_ACTIVATION_KERNEL(add)
MORA_CPU_ACTIVATION_KERNEL(scale_by)
MORA_CPU_KERNEL(cast)
MORA_CPU_ACTIVATION_KERNEL(swiglu)
MORA_CPU_ACTIVATION_KERNEL(swiglu_grad)

}  // namespace mora::cpu
