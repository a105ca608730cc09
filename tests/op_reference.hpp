// Every operation once more, as plain loops in double written from its formula. Slow on purpose:
// nothing here is shared with the kernels, so that agreement means something.
#pragma once

#include <cstdint>
#include <vector>

#include "mora/ops/attrs.hpp"

namespace mora::testing {

using Array = std::vector<double>;
using Arrays = std::vector<Array>;

}  // namespace mora::testing

namespace mora::testing::reference {

struct MatmulSize {
  int64_t m, k, n;
};
// c may be empty.
Array matmul(const Array& a, const Array& b, const Array& c, const MatmulSize& size,
             const MatmulTerm& attrs);

Array embedding(const Array& table, const Array& ids, int64_t width);
Array embedding_grad(const Array& dy, const Array& ids, int64_t rows, int64_t width);

Arrays rms_norm(const Array& x, const Array& w, double eps);                        // y, rstd
Arrays rms_norm_grad(const Array& x, const Array& w, const Array& dy, double eps);  // dx, dw

Array rope(const Array& x, const Array& table, const Array& positions, int64_t head_dim,
           const RopeAttrs& attrs);

Array swiglu(const Array& gate, const Array& up);
Arrays swiglu_grad(const Array& gate, const Array& up, const Array& dy);  // dgate, dup

struct Qkv {
  const Array &q, &k, &v;
};
Arrays attention(const Qkv& in, const Array& segment_start, int64_t head_dim,
                 const AttentionAttrs& attrs);  // y, lse
// dq, dk, dv
Arrays attention_grad(const Qkv& in, const Array& segment_start, const Array& dy, int64_t head_dim,
                      const AttentionAttrs& attrs);

struct CacheRows {
  const Array &slots, &positions;
  int64_t capacity;
};
Array cached_attention(const Qkv& in, const CacheRows& rows, int64_t head_dim,
                       const AttentionAttrs& attrs);
Array cache_write(const Array& cache, const Array& x, const CacheRows& rows, int64_t width);

// loss, nll
Arrays linear_cross_entropy(const Array& h, const Array& w, const Array& labels,
                            const Array& weights);

// The mask's words as signed numbers.
Array dropout_mask(const Array& step, const DropoutMaskAttrs& attrs);
Array dropout(const Array& x, const Array& mask, const DropoutAttrs& attrs);

Array fold(const Array& x, int64_t features, const FoldAttrs& attrs);
Array unfold(const Array& z, int64_t groups, const FoldAttrs& attrs);
Array resize(const Array& x, int64_t from, int64_t to);

struct BlockTable {
  const Array& table;
  int64_t blocks, width;
};
Array rotate_blocks(const Array& x, const BlockTable& table, int64_t features,
                    const RotateBlocksAttrs& attrs);

// ||w[o] + scale (b a)[o]||
Array row_norm(const Array& w, const Array& b, const Array& a, int64_t rank,
               const RowNormAttrs& attrs);
struct DoraArrays {
  const Array &base, &low_rank, &magnitude, &norm;
};
Array dora(const DoraArrays& in);
Arrays dora_grad(const DoraArrays& in, const Array& dy);  // dbase, dlow_rank, dmagnitude

// parameters, exp_avg, exp_avg_sq after the step; inputs in the order of the op.
Arrays adamw(const Arrays& in, const AdamWAttrs& attrs);

}  // namespace mora::testing::reference
