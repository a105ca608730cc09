// The constants of each operation, as its kernel and its model author see them. Designated
// initialisers, no booleans.
//
// Letters used for shapes throughout: T tokens, D model width, H heads, K head_dim, F ffn width, V
// vocabulary, R rank or r_hat, M x K x N a matrix product.
#pragma once

#include <cstdint>
#include <optional>

#include "mora/core/dtype.hpp"

namespace mora {

enum class Transpose : uint8_t { no, yes };
enum class Direction : uint8_t { forward, backward };

struct MatmulTerm {  // alpha * op(a) * op(b)
  Transpose ta = Transpose::no;
  Transpose tb = Transpose::no;
  double alpha = 1.0;
};

struct MatmulAttrs {
  MatmulTerm term = {};
  std::optional<DType> out = {};  // of the result; empty: as a
};

struct MatmulSumAttrs {
  MatmulTerm first = {}, second = {};
  std::optional<DType> out = {};  // as in MatmulAttrs
};

struct CastAttrs {
  DType dtype;
};

struct EmbeddingGradAttrs {
  int64_t rows;  // V
};

struct RmsNormAttrs {
  double eps;
  std::optional<DType> out = {};  // of y; empty: as x
};

// backward rotates by the negative angle: the transpose of forward.
struct RopeAttrs {
  int64_t heads;
  Direction direction = Direction::forward;
};

struct AttentionAttrs {
  int64_t heads;
  int64_t kv_heads;
  double scale;  // usually 1/sqrt(head_dim)
};

struct DropoutMaskAttrs {
  int64_t elements;
  double p;
  uint64_t seed;
  uint32_t stream;  // which dropout of the model this is
};

struct DropoutAttrs {
  double p;
};

// How the N positions of an axis are shared among R groups (shared positions are summed, or given
// the same value).
//   strided:    group(j) = j mod R                                           (authors' "mod" map)
//   contiguous: the first N mod R groups hold ceil(N/R) neighbours, the others floor(N/R)
enum class Grouping : uint8_t { strided, contiguous };

// circular: a strided axis is first extended to the next multiple of R by repeating itself from the
// start, so that position p of the extended axis is position p mod N. Contiguous groups need no
// padding.
enum class Padding : uint8_t { none, circular };

struct FoldAttrs {
  int64_t size;  // of the result: R for fold, N for unfold
  Grouping grouping;
  Padding padding;
};

struct ResizeAttrs {
  int64_t size;
};

// forward: y[j] = s_j x[p_j]; backward, its transpose: y[p_j] = s_j x[j].
struct PermuteAttrs {
  Direction direction = Direction::forward;
};

// forward: [T, in] -> [T, blocks * R]; backward is its transpose, [T, blocks * R] -> [T, size].
struct RotateBlocksAttrs {
  Direction direction = Direction::forward;
  int64_t size = 0;  // in, needed for backward
};

struct BlockProductAttrs {
  Direction direction = Direction::forward;
  int64_t size = 0;  // of a row of the result
  double alpha = 1.0;
};

struct MatmulBlockProductAttrs {
  MatmulTerm first = {};
  BlockProductAttrs second = {};
  std::optional<DType> out = {};  // as in MatmulAttrs
};

struct RowNormAttrs {
  double scale;
};

struct AdamWAttrs {
  double beta1;
  double beta2;
  double eps;
  double weight_decay;
  double max_grad_norm;  // 0: no clipping
  double lr_ratio = 1;   // the learning rate is this times the hyper-parameter
};

}  // namespace mora
