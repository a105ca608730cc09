// fold, unfold and resize: sums over groups of features, their transpose, and cutting or extending
// by zeros.
//   fold:   z[t, c] = sum of x[t, p mod N] over extended positions p with group(p) = c
//   unfold: y[t, p mod N] += z[t, group(p)], plus c[t, :]             x, y, c: [T, N]  z: [T, R]
#include <algorithm>

#include "backend/cpu/row_sums.hpp"

namespace mora::cpu {

namespace {

// Visits the pairs (group, feature) at extended positions from `begin` on, where feature 0 or group
// 0 is, as runs f(group, feature, length): feature + i belongs to group + i.
template <class Visit>
void strided_runs(int64_t begin, int64_t features, int64_t groups, Padding padding,
                  const Visit& visit) {
  const int64_t whole = rounded_up(features, groups);
  const int64_t end = padding == Padding::circular ? whole : features;
  int64_t feature = begin % features, group = begin % groups;
  for (int64_t p = begin; p < end;) {
    const int64_t length = std::min({features - feature, groups - group, end - p});
    visit(group, feature, length);
    p += length;
    feature = feature + length < features ? feature + length : 0;
    group = group + length < groups ? group + length : 0;
  }
}

// Visits groups as f(group, feature, length): these features belong to it.
template <class Visit>
void contiguous_groups(int64_t features, int64_t groups, const Visit& visit) {
  const int64_t small = features / groups, larger = features % groups;
  int64_t feature = 0;
  for (int64_t group = 0; group < groups; ++group) {
    const int64_t length = small + (group < larger ? 1 : 0);
    visit(group, feature, length);
    feature += length;
  }
}

// A token's y before the addend. `row` has what the first features become, as they may belong to
// several groups; where there are more features than groups, z follows, and its begin once more, so
// that any vector of features is one load.
template <class S>
class Unfolded {
  using T = Working<S>;
  static constexpr int64_t kWidth = kLanes<T>, kAgain = kLanes<float>;  // the same for every T

 public:
  Unfolded(int64_t features, int64_t groups, const FoldAttrs& attrs)
      : features_(features),
        groups_(groups),
        attrs_(attrs),
        first_(attrs.grouping == Grouping::strided ? std::min(features, groups) : features) {}

  int64_t row_elements() const { return first_ + (first_ < features_ ? groups_ + kAgain : 0); }

  void fill(const S* z, T* row) const {
    if (attrs_.grouping == Grouping::contiguous) {
      return contiguous_groups(features_, groups_,
                               [&](int64_t group, int64_t feature, int64_t length) {
                                 std::fill_n(row + feature, length, value_as<T>(z[group]));
                               });
    }
    convert_row(z, first_, row);
    strided_runs(features_, features_, groups_, attrs_.padding,
                 [&](int64_t group, int64_t feature, int64_t length) {
                   add_row_to(row + feature, z + group, length);
                 });
    if (first_ == features_) return;
    T* again = row + first_;
    convert_row(z, groups_, again);
    for (int64_t i = 0; i < kAgain; ++i) again[groups_ + i] = again[i % groups_];
  }

  // y = the features of a row that was filled, plus addend unless it is null
  void write(const T* row, const S* addend, S* y) const {
    const int64_t end = first_ + groups_;  // a feature there is the one that stands `groups` before
    int64_t at = 0, f = 0;
    for (; f + kWidth <= features_; f += kWidth) {
      const Vec<T> v = load(row + at);
      store(y + f, addend == nullptr ? v : load(addend + f) + v);
      at += kWidth;
      while (at >= end) at -= groups_;
    }
    for (; f < features_; ++f, ++at)
      y[f] = value_as<S>(addend == nullptr ? row[at] : value_as<T>(addend[f]) + row[at]);
  }

 private:
  int64_t features_, groups_;
  FoldAttrs attrs_;
  int64_t first_;
};

}  // namespace

template <class S>
void fold(const KernelArgs& args) {
  using T = Working<S>;
  const auto attrs = args.attrs.as<FoldAttrs>();
  const int64_t features = args.in[0].shape().last(), groups = attrs.size,
                rounds = features / groups;
  each_summed_row<S>(args, [&](const S* x, T* z) {
    if (attrs.grouping == Grouping::contiguous) {
      contiguous_groups(features, groups, [&](int64_t group, int64_t feature, int64_t length) {
        z[group] = 0;
        for (int64_t i = 0; i < length; ++i) z[group] += value_as<T>(x[feature + i]);
      });
    } else {
      add_rounds(x, groups, groups, rounds, z);
      strided_runs(rounds * groups, features, groups, attrs.padding,
                   [&](int64_t group, int64_t feature, int64_t length) {
                     add_row_to(z + group, x + feature, length);
                   });
    }
  });
}

Prepared prepare_unfold(const OpCall& call) {
  const auto attrs = call.attrs.as<FoldAttrs>();
  const int64_t tokens = call.out[0].shape[0], groups = call.in[0].shape.last();
  const int64_t rooms = summing_pieces(tokens, std::max(attrs.size, groups));
  const int64_t row = Unfolded<float>(attrs.size, groups, attrs).row_elements();
  return {static_cast<size_t>(rooms * row) * size_of(working_of(call.out[0].dtype)), nullptr};
}

template <class S>
void unfold(const KernelArgs& args) {
  using T = Working<S>;
  const auto attrs = args.attrs.as<FoldAttrs>();
  const int64_t features = attrs.size, groups = args.in[0].shape().last(),
                grain = rows_per_piece(std::max(features, groups));
  const Unfolded<S> unfolded(features, groups, attrs);
  const auto* z = ptr<const S>(args.in[0]);
  const auto* addend = args.in.size() == 2 ? ptr<const S>(args.in[1]) : nullptr;
  auto* y = ptr<S>(args.out[0]);
  parallel_pieces(args.in[0].shape()[0], grain, [&](int64_t begin, int64_t end) {
    T* row = static_cast<T*>(args.scratch) + begin / grain * unfolded.row_elements();
    for (int64_t t = begin; t < end; ++t) {
      unfolded.fill(z + t * groups, row);
      unfolded.write(row, addend == nullptr ? nullptr : addend + t * features, y + t * features);
    }
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
