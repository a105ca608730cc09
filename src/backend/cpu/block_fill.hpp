// MoRA's rotation for some tokens at a time: features are cut and turned, multiplied by M and put
// where they belong in a panel of the result (or folded, multiplied and turned back), without
// leaving the cache. With L = blocks R:
//   forward:   y[j] = z[j mod L],  z_b = a_b M^T,  a_b: block b of x, turned
//   backward:  y = sum of turned back d_b M,  d[p] = sum of x[j] over j mod L = p
#pragma once

#include <algorithm>
#include <type_traits>

#include "backend/cpu/block_gemm.hpp"
#include "backend/cpu/panel_fill.hpp"
#include "backend/cpu/square_factor.hpp"
#include "backend/cpu/turned_blocks.hpp"

namespace mora::cpu {

// a[width] = what of x[n] belongs to block b: of the positions of all blocks, which x goes round.
template <class S, class T, class A>
void fold_block(const TurnedBlocks<T>& blocks, int64_t b, int64_t rows, RowsAt<const S> x,
                int64_t n, RowsAt<A> a) {
  const int64_t width = blocks.width, round = blocks.positions(), first = b * width;
  const int64_t whole = n < first + width ? 0 : (n - first - width) / round + 1,
                rest = n - (first + whole * round);  // of the last round
  for (int64_t row = 0; row < rows; ++row) {
    const S* from = x[row] + first;
    add_rounds(from, width, round, whole, a[row]);
    if (rest > 0) add_rounds(from, rest, round, whole + 1, a[row]);
  }
}

// x and y have rows of S and C, products are made of A.
template <class S, class A, class C>
class BlockFill final : public PanelFill {
  using T = Working<S>;
  static constexpr int64_t kTokens = 32;

 public:
  struct Rows {
    const S* x;
    int64_t x_features;
    C* y;
    int64_t y_features;
  };

  // The features that blocks are cut from: those of x, or of y if it is backward.
  BlockFill(const TurnedBlocks<T>& blocks, Direction direction, const Rows& rows,
            const std::byte* packed, Store store_as)
      : blocks_(blocks),
        direction_(direction),
        rows_(rows),
        square_{blocks.width},
        packed_(packed),
        store_as_(store_as) {}

  // Of `features` results.
  static FillNeeds needs(const TurnedBlocks<T>& blocks, Direction direction, int64_t features) {
    const SquareFactor<A> square{blocks.width};
    const bool repeats = direction == Direction::forward && features > blocks.positions();
    return {a_bytes(square) + scratch_room(kTokens * square.z_stride(), dtype_of<T>()),
            2 * blocks.positions(), blocks.positions() * blocks.width,
            repeats ? FillColumns::all : FillColumns::some};
  }

  void fill(const Panel& panel, std::byte* room) const override {
    auto* a = reinterpret_cast<A*>(room);
    auto* z = reinterpret_cast<T*>(room + a_bytes(square_));
    for (int64_t i = 0; i < kTokens; ++i) {
      A* row = a + i * square_.a_stride();
      std::fill(row + blocks_.width, row + square_.a_stride(), value_as<A>(T(0)));
    }
    const FeatureRange range{panel.column, panel.column + panel.columns};
    for (int64_t t = panel.row; t < panel.row + panel.rows; t += kTokens) {
      const int64_t tokens = std::min(kTokens, panel.row + panel.rows - t);
      direction_ == Direction::forward ? spread(t, tokens, range, a, z)
                                       : gather(t, tokens, range, a, z);
    }
  }

 private:
  static size_t a_bytes(const SquareFactor<A>& square) {
    return scratch_room(kTokens * square.a_stride(), dtype_of<A>());
  }
  RowsAt<const S> x(int64_t t) const { return {rows_.x + t * rows_.x_features, rows_.x_features}; }
  RowsAt<C> y(int64_t t) const { return {rows_.y + t * rows_.y_features, rows_.y_features}; }

  void spread(int64_t t, int64_t tokens, const FeatureRange& range, A* a, T* z) const {
    for (int64_t b = 0; b < blocks_.count; ++b) {
      int64_t columns = 0;  // of z that somebody reads
      results_of(b, range,
                 [&](int64_t, int64_t c, int64_t n) { columns = std::max(columns, c + n); });
      if (columns == 0) continue;
      blocks_.turn(b, tokens, x(t), RowsAt<A>{a, square_.a_stride()});
      square_.multiply(tokens, columns, a, packed_, z);
      results_of(b, range, [&](int64_t feature, int64_t c, int64_t n) {
        for (int64_t i = 0; i < tokens; ++i)
          put(y(t)[i] + feature, n, z + i * square_.z_stride() + c);
      });
    }
  }

  // Visits the results in range that block b is written to, as runs f(feature, c, length): feature
  // + i gets number c + i of the block.
  template <class Visit>
  void results_of(int64_t b, const FeatureRange& range, const Visit& visit) const {
    for (int64_t at = b * blocks_.width; at < range.end; at += blocks_.positions()) {
      const int64_t begin = std::max(at, range.begin),
                    end = std::min(at + blocks_.width, range.end);
      if (begin < end) visit(begin, begin - at, end - begin);
    }
  }

  void put(C* to, int64_t n, const T* z) const {
    if (store_as_ == Store::add) return add_row_to(to, z, n);
    convert_row(z, n, to);
  }

  // In the order of blocks, of which several may add to a feature.
  void gather(int64_t t, int64_t tokens, const FeatureRange& range, A* a, T* z) const {
    if (store_as_ == Store::assign) {
      for (int64_t i = 0; i < tokens; ++i)
        std::fill(y(t)[i] + range.begin, y(t)[i] + range.end, value_as<C>(T(0)));
    }
    for (int64_t b = 0; b < blocks_.count; ++b) {
      if (!touches(b, range)) continue;
      fold_block(blocks_, b, tokens, x(t), rows_.x_features, RowsAt<A>{a, square_.a_stride()});
      square_.multiply(tokens, blocks_.width, a, packed_, z);
      blocks_.add_turned_back(b, tokens, RowsAt<const T>{z, square_.z_stride()}, y(t), range);
    }
  }

  // Whether block b has features in range.
  bool touches(int64_t b, const FeatureRange& range) const {
    const int64_t first = b * blocks_.width % blocks_.features, end = first + blocks_.width;
    return (first < range.end && end > range.begin) || end > blocks_.features + range.begin;
  }

  TurnedBlocks<T> blocks_;
  Direction direction_;
  Rows rows_;
  SquareFactor<A> square_;
  const std::byte* packed_;
  Store store_as_;
};

}  // namespace mora::cpu
