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

// y = g * sigmoid(g) * u
template <class S>
void swiglu(const KernelArgs& args) {
  using T = Working<S>;
  const auto *g = ptr<const S>(args.in[0]), *u = ptr<const S>(args.in[1]);
  auto* y = ptr<S>(args.out[0]);
  each(args.out[0].elements(), [=](int64_t i) {
    const T gate = value_as<T>(g[i]);
    y[i] = value_as<S>(gate * sigmoid(gate) * value_as<T>(u[i]));
  });
}

// With s = sigmoid(g):  dg = dy * u * s * (1 + g (1 - s)),  du = dy * g * s
template <class S>
void swiglu_grad(const KernelArgs& args) {
  using T = Working<S>;
  const auto *g = ptr<const S>(args.in[0]), *u = ptr<const S>(args.in[1]),
             *dy = ptr<const S>(args.in[2]);
  auto *dg = ptr<S>(args.out[0]), *du = ptr<S>(args.out[1]);
  const auto gate_gradient = [=](T gate, T up, T d, T s) {
    return value_as<S>(d * up * s * (T(1) + gate * (T(1) - s)));
  };
  const auto up_gradient = [=](T gate, T d, T s) { return value_as<S>(d * gate * s); };
  const int64_t n = args.in[0].elements();
  if (dg != nullptr && du != nullptr) {
    each(n, [=](int64_t i) {
      const T gate = value_as<T>(g[i]), d = value_as<T>(dy[i]), s = sigmoid(gate);
      du[i] = up_gradient(gate, d, s);
      dg[i] = gate_gradient(gate, value_as<T>(u[i]), d, s);
    });
  } else if (dg != nullptr) {
    each(n, [=](int64_t i) {
      const T gate = value_as<T>(g[i]);
      dg[i] = gate_gradient(gate, value_as<T>(u[i]), value_as<T>(dy[i]), sigmoid(gate));
    });
  } else if (du != nullptr) {
    each(n, [=](int64_t i) {
      const T gate = value_as<T>(g[i]);
      du[i] = up_gradient(gate, value_as<T>(dy[i]), sigmoid(gate));
    });
  }
}

MORA_CPU_ACTIVATION_KERNEL(add)
MORA_CPU_ACTIVATION_KERNEL(scale_by)
MORA_CPU_KERNEL(cast)
MORA_CPU_ACTIVATION_KERNEL(swiglu)
MORA_CPU_ACTIVATION_KERNEL(swiglu_grad)

}  // namespace mora::cpu
