// Rows of results that are sums, computed in the working type: in place where they are stored so,
// else in a row of scratch memory.
#pragma once

#include <type_traits>

#include "backend/cpu/kernels.hpp"
#include "backend/cpu/pieces.hpp"
#include "backend/cpu/simd.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

inline int64_t summing_pieces(int64_t rows, int64_t width) {
  return pieces(rows, rows_per_piece(width));
}

// A row of scratch for every piece, where one is needed.
inline Prepared prepare_row_sums(const OpCall& call) {
  const DType stored = call.out[0].dtype, working = working_of(stored);
  if (stored == working) return {};
  const int64_t width = call.out[0].shape.last();
  const int64_t rooms =
      summing_pieces(call.out[0].shape[0], std::max(call.in[0].shape.last(), width));
  return {static_cast<size_t>(rooms * width) * size_of(working), nullptr};
}

// visit(i, k) for the vectors of a row of n numbers: k of them at i. Of a row longer than a vector
// the last overlaps the one before, so that no number is left over: visits may repeat what they
// did.
template <class T, class Visit>
inline void each_vector(int64_t n, const Visit& visit) {
  constexpr int64_t lanes = kLanes<T>;
  if (n < lanes) return visit(int64_t{0}, n);
  for (int64_t i = 0; i + lanes <= n; i += lanes) visit(i, lanes);
  if (n % lanes != 0) visit(n - lanes, lanes);
}

// sums += term(i, k), the k numbers at i
template <class S, class Term>
inline void add_vectors(S* sums, int64_t n, const Term& term) {
  constexpr int64_t lanes = kLanes<Working<S>>;
  if (n < lanes) return store(sums, load(sums, n) + term(int64_t{0}, n), n);
  const Vec<Working<S>> last = load(sums + n - lanes) + term(n - lanes, lanes);
  for (int64_t i = 0; i + lanes <= n; i += lanes) store(sums + i, load(sums + i) + term(i, lanes));
  store(sums + n - lanes, last);
}

// sums += x
template <class Sum, class S>
inline void add_row_to(Sum* sums, const S* x, int64_t n) {
  add_vectors(sums, n, [=](int64_t i, int64_t k) { return load(x + i, k); });
}

// sums[i] = sum of x[i + n round] for n < rounds
template <class S, class Sum>
inline void add_rounds(const S* x, int64_t width, int64_t round, int64_t rounds, Sum* sums) {
  each_vector<Working<S>>(width, [=](int64_t i, int64_t k) {
    Vec<Working<S>> sum{};
    for (int64_t n = 0; n < rounds; ++n) sum += load(x + n * round + i, k);
    store(sums + i, sum, k);
  });
}

// to = from, in another type
template <class From, class To>
inline void convert_row(const From* from, int64_t n, To* to) {
  each_vector<Working<From>>(n, [=](int64_t i, int64_t k) { store(to + i, load(from + i, k), k); });
}

// row(x, y) for every row of input 0 and output 0, y in the working type.
template <class S, class Row>
void each_summed_row(const KernelArgs& args, const Row& row) {
  using T = Working<S>;
  const auto* x = ptr<const S>(args.in[0]);
  auto* y = ptr<S>(args.out[0]);
  const int64_t n = args.in[0].shape().last(), m = args.out[0].shape().last(),
                grain = rows_per_piece(std::max(n, m));
  parallel_pieces(args.in[0].shape()[0], grain, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      if constexpr (std::is_same_v<S, T>) {
        row(x + t * n, y + t * m);
      } else {
        T* sums = static_cast<T*>(args.scratch) + begin / grain * m;
        row(x + t * n, sums);
        convert_row(sums, m, y + t * m);
      }
    }
  });
}

}  // namespace mora::cpu
