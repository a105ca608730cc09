// fold, unfold and resize: sums over groups of features, their transpose, and cutting or extending
// by zeros.
//   fold:   z[t, c] = sum of x[t, p mod N] over extended positions p with group(p) = c
//   unfold: y[t, p mod N] += z[t, group(p)], plus c[t, :]             x, y, c: [T, N]  z: [T, R]
// A thread gathers what belongs to its elements of the result, in the order of positions.
#include <numeric>

#include "backend/cuda/kernels.hpp"
#include "backend/cuda/over_packs.hpp"

namespace mora::cuda {

namespace {

// Position p belongs to feature p mod features and to group p mod groups.
struct StridedGroups {
  int32_t features, groups, end;

  // What feature `column` and those behind it get of the groups z.
  template <class S, class L>
  __device__ Vec<Working<S>, L::kCount> of_feature(const S* z, int32_t column, L lanes) const {
    auto sum = load(z + column % groups, lanes);
    for (int32_t p = column + features; p < end; p += features)
      sum = sum + load(z + p % groups, lanes);
    return sum;
  }
};

StridedGroups strided_groups(int64_t features, int64_t groups, Padding padding) {
  const int64_t whole = (features + groups - 1) / groups * groups;
  return {static_cast<int32_t>(features), static_cast<int32_t>(groups),
          static_cast<int32_t>(padding == Padding::circular ? whole : features)};
}

// Neighbours: the first `larger` groups have one feature more than the others.
struct ContiguousGroups {
  int32_t small, larger;

  __device__ int32_t begin(int32_t group) const { return group * small + std::min(group, larger); }
  __device__ int32_t group_of(int32_t feature) const {
    const int32_t in_larger = larger * (small + 1);
    return feature < in_larger ? feature / (small + 1) : larger + (feature - in_larger) / small;
  }
  template <class S, class L>
  __device__ Vec<Working<S>, L::kCount> of_feature(const S* z, int32_t column, L) const {
    int32_t group = group_of(column), end = begin(group + 1);
    return vec_of<L::kCount>([&](int i) {
      if (column + i == end) end = begin(++group + 1);
      return value_as<Working<S>>(z[group]);
    });
  }
};

ContiguousGroups contiguous_groups(int64_t features, int64_t groups) {
  return {static_cast<int32_t>(features / groups), static_cast<int32_t>(features % groups)};
}

template <class S>
void fold_strided(const KernelArgs& args, const StridedGroups& g) {
  const auto* x = ptr<const S>(args.in[0]);
  auto* z = ptr<S>(args.out[0]);
  over_rows<kLanes<S>>({args.in[0].shape()[0], g.groups, std::gcd(g.features, g.groups)},
                       access_to(x, z), [=] __device__(int64_t t, int64_t column, auto lanes) {
                         const S* row = x + t * g.features;
                         Vec<Working<S>, decltype(lanes)::kCount> sum{};
                         for (auto p = static_cast<int32_t>(column); p < g.end; p += g.groups)
                           sum = sum + load(row + (p < g.features ? p : p % g.features), lanes);
                         store(z + t * g.groups + column, sum, lanes);
                       });
}

// A thread has a group, whose features it reads by L.
template <class L, class S>
void fold_neighbours(const KernelArgs& args, const ContiguousGroups& g) {
  const auto* x = ptr<const S>(args.in[0]);
  auto* z = ptr<S>(args.out[0]);
  const int64_t features = args.in[0].shape().last(), groups = args.out[0].shape().last();
  over_rows<1>({args.in[0].shape()[0], groups, groups}, Access::packed,
               [=] __device__(int64_t t, int64_t column, auto) {
                 const auto group = static_cast<int32_t>(column);
                 const S* row = x + t * features;
                 Working<S> sum = 0;
                 for (int32_t i = g.begin(group); i < g.begin(group + 1); i += L::kCount)
                   sum = add_lanes(sum, load(row + i, L{}));
                 z[t * groups + group] = value_as<S>(sum);
               });
}

template <class S, class Groups>
void unfold_groups(const KernelArgs& args, const Groups& g, int64_t run) {
  const auto* z = ptr<const S>(args.in[0]);
  const auto* addend = args.in.size() == 2 ? ptr<const S>(args.in[1]) : nullptr;
  auto* y = ptr<S>(args.out[0]);
  const int64_t features = args.out[0].shape().last(), groups = args.in[0].shape().last();
  over_rows<kLanes<S>>({args.in[0].shape()[0], features, run}, access_to(z, addend, y),
                       [=] __device__(int64_t t, int64_t column, auto lanes) {
                         const int64_t at = t * features + column;
                         auto v = g.of_feature(z + t * groups, static_cast<int32_t>(column), lanes);
                         if (addend != nullptr) v = load(addend + at, lanes) + v;
                         store(y + at, v, lanes);
                       });
}

}  // namespace

template <class S>
void fold(const KernelArgs& args) {
  const auto attrs = args.attrs.as<FoldAttrs>();
  const int64_t features = args.in[0].shape().last(), groups = attrs.size;
  if (attrs.grouping == Grouping::strided)
    return fold_strided<S>(args, strided_groups(features, groups, attrs.padding));
  const ContiguousGroups g = contiguous_groups(features, groups);
  const int64_t run = g.larger == 0 ? g.small : 1;
  with_lanes<kLanes<S>>(run, access_to(ptr<S>(args.in[0])),
                        [&](auto lanes) { fold_neighbours<decltype(lanes), S>(args, g); });
}

template <class S>
void unfold(const KernelArgs& args) {
  const auto attrs = args.attrs.as<FoldAttrs>();
  const int64_t features = attrs.size, groups = args.in[0].shape().last();
  if (attrs.grouping == Grouping::contiguous)
    return unfold_groups<S>(args, contiguous_groups(features, groups), features);
  unfold_groups<S>(args, strided_groups(features, groups, attrs.padding),
                   std::gcd(features, groups));
}

template <class S>
void resize(const KernelArgs& args) {
  using T = Working<S>;
  const auto* x = ptr<const S>(args.in[0]);
  auto* y = ptr<S>(args.out[0]);
  const int64_t from = args.in[0].shape().last(), to = args.out[0].shape().last();
  over_rows<kLanes<S>>({args.in[0].shape()[0], to, std::gcd(from, to)}, access_to(x, y),
                       [=] __device__(int64_t t, int64_t column, auto lanes) {
                         Vec<T, decltype(lanes)::kCount> v{};
                         if (column < from) v = load(x + t * from + column, lanes);
                         store(y + t * to + column, v, lanes);
                       });
}

MORA_CUDA_ACTIVATION_KERNEL(fold)
MORA_CUDA_ACTIVATION_KERNEL(unfold)
MORA_CUDA_ACTIVATION_KERNEL(resize)

}  // namespace mora::cuda
