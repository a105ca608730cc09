// fold, unfold and resize: sums over groups of features, their transpose, and cutting or extending
// by zeros.
//   fold:   z[t, c] = sum of x[t, p mod N] over extended positions p with group(p) = c
//   unfold: y[t, p mod N] += z[t, group(p)], plus c[t, :]             x, y, c: [T, N]  z: [T, R]
#include <algorithm>

#include "backend/cpu/row_sums.hpp"

namespace mora::cpu {

namespace {

// Visits the pairs (group, feature) of a grouping as runs f(group, group_step, feature, length):
// feature + i belongs to group + i * group_step.
template <class Visit>
void strided_runs(int64_t features, int64_t groups, Padding padding, const Visit& visit) {
  const int64_t whole = (features + groups - 1) / groups * groups;
  const int64_t end = padding == Padding::circular ? whole : features;
  for (int64_t p = 0; p < end;) {
    const int64_t feature = p % features, group = p % groups;
    const int64_t length = std::min({features - feature, groups - group, end - p});
    visit(group, int64_t{1}, feature, length);
    p += length;
  }
}

template <class Visit>
void contiguous_runs(int64_t features, int64_t groups, const Visit& visit) {
  const int64_t small = features / groups, larger = features % groups;
  int64_t feature = 0;
  for (int64_t group = 0; group < groups && feature < features; ++group) {
    const int64_t length = small + (group < larger ? 1 : 0);
    visit(group, int64_t{0}, feature, length);
    feature += length;
  }
}

template <class Visit>
void runs(int64_t features, int64_t groups, const FoldAttrs& attrs, const Visit& visit) {
  if (attrs.grouping == Grouping::strided) {
    strided_runs(features, groups, attrs.padding, visit);
  } else {
    contiguous_runs(features, groups, visit);
  }
}

}  // namespace

template <class S>
void fold(const KernelArgs& args) {
  using T = Working<S>;
  const auto attrs = args.attrs.as<FoldAttrs>();
  const int64_t features = args.in[0].shape().last(), groups = attrs.size;
  each_summed_row<S>(args, nullptr, [&](const S* x, T* z) {
    std::fill_n(z, groups, T(0));
    runs(features, groups, attrs,
         [&](int64_t group, int64_t step, int64_t feature, int64_t length) {
           if (step == 1) {
#pragma GCC ivdep
             for (int64_t i = 0; i < length; ++i) z[group + i] += value_as<T>(x[feature + i]);
           } else {
             for (int64_t i = 0; i < length; ++i) z[group] += value_as<T>(x[feature + i]);
           }
         });
  });
}

template <class S>
void unfold(const KernelArgs& args) {
  using T = Working<S>;
  const auto attrs = args.attrs.as<FoldAttrs>();
  const int64_t features = attrs.size, groups = args.in[0].shape().last();
  const S* addend = args.in.size() == 2 ? ptr<const S>(args.in[1]) : nullptr;
  each_summed_row<S>(args, addend, [&](const S* z, T* y) {
    std::fill_n(y, features, T(0));
    runs(features, groups, attrs,
         [&](int64_t group, int64_t step, int64_t feature, int64_t length) {
           if (step == 1) {
#pragma GCC ivdep
             for (int64_t i = 0; i < length; ++i) y[feature + i] += value_as<T>(z[group + i]);
           } else {
             for (int64_t i = 0; i < length; ++i) y[feature + i] += value_as<T>(z[group]);
           }
         });
  });
}

template <class S>
void resize(const KernelArgs& args) {
  const auto* x = ptr<const S>(args.in[0]);
  auto* y = ptr<S>(args.out[0]);
  const int64_t from = args.in[0].shape().last(), to = args.out[0].shape().last(),
                kept = std::min(from, to);
  parallel_pieces(args.in[0].shape()[0], rows_per_piece(std::max(from, to)),
                  [&](int64_t begin, int64_t end) {
                    for (int64_t t = begin; t < end; ++t) {
                      std::copy_n(x + t * from, kept, y + t * to);
                      std::fill(y + t * to + kept, y + (t + 1) * to, value_as<S>(Working<S>(0)));
                    }
                  });
}

MORA_CPU_ACTIVATION_KERNEL(fold)
MORA_CPU_ACTIVATION_KERNEL(unfold)
MORA_CPU_ACTIVATION_KERNEL(resize)

}  // namespace mora::cpu
