// What a model author calls: free functions that write nodes. Every function checks its shapes at
// once and throws Error(internal) with them; formulas stand at the kernels (backend/cpu) and in
// each op's source.
#pragma once

#include <array>
#include <string_view>

#include "mora/graph/graph.hpp"
#include "mora/ops/attrs.hpp"

namespace mora {

enum class OpId : int {
#define MORA_OP(name) name,
#include "mora/ops/ops.def"
#undef MORA_OP
  count
};
constexpr int kOpCount = static_cast<int>(OpId::count);

const Op& op(OpId id);  // its record

// Activations are f32 or f64, or bf16 between operations; what belongs to them (weights, tables,
// statistics) is then f32.

// alpha * op(a) * op(b) + c. Leading dimensions of a (and of b) flatten to rows. Of f32 and a b in
// bf16 or f16 the product is made in f32, of bf16 and a b in bf16 or f32 in bf16 with sums in f32.
struct MatmulOptions {
  Transpose ta = Transpose::no;
  Transpose tb = Transpose::no;
  double alpha = 1.0;
  Var c = {};                     // same shape and type as the result
  std::optional<DType> out = {};  // as a, or f32 where a is bf16
};
Var matmul(Var a, Var b, const MatmulOptions& options = {});

// The sum of two such products of the same shape, both a of the same type. Plans make it of a
// product that is added to another, so that the result is written once.
struct MatmulOperands {
  Var a, b;
};
Var matmul_sum(const MatmulOperands& first, const MatmulOperands& second,
               const MatmulSumAttrs& attrs = {}, Var c = {});

Var add(Var a, Var b);            // same shape; b may be bf16 where a is f32
Var add_row(Var x, Var row);      // [..., N] + [N]: the row is added to every row of x
Var scale_by(Var x, Var factor);  // factor: [1], a number known only at run time
Var cast(Var x, DType dtype);     // among f32, bf16, f16, f64

Var embedding(Var table, Var ids);  // [V, D], [T] i32 -> [T, D]; also gathers rows of any matrix

struct RmsNormed {
  Var y;     // x * rstd * w
  Var rstd;  // [T]: 1 / sqrt(mean(x^2) + eps)
};
// [T, D], [D]; y may be bf16 where x is f32.
RmsNormed rms_norm(Var x, Var w, double eps, std::optional<DType> y = {});

// Rotates each head of x [T, H*K] by the angles of its token's position, half-split pairs (i, i +
// K/2) as transformers. table: [P, K], row p = cos(p * f_0..K/2-1), sin(p * f_0..K/2-1); positions:
// [T] i32 < P.
Var rope(Var x, Var table, Var positions, const RopeAttrs& attrs);

Var swiglu(Var gate, Var up);  // silu(gate) * up

struct Attended {
  Var y;    // [T, H*K]
  Var lse;  // [T, H]: log of the sum of exponentials of the scores
};
// Causal attention inside segments: token t sees s in [segment_start[t], t]. Head h reads kv head h
// / (H / H_kv). q: [T, H*K]; k, v: [T, H_kv*K]; segment_start: [T] i32, the first token of
// t's segment: the same for all tokens of a segment, and equal to t for its first.
Attended attention(Var q, Var k, Var v, Var segment_start, const AttentionAttrs& attrs);

// Attention against a cache: token t of sequence slots[t] at positions[t] sees that slot's entries
// 0..positions[t]. caches: [S, C, H_kv*K]; a negative slot marks an unused row, whose result is 0.
// Not differentiable.
Var cached_attention(Var q, Var k_cache, Var v_cache, Var slots, Var positions,
                     const AttentionAttrs& attrs);
void cache_write(Var cache, Var x, Var slots,
                 Var positions);  // cache[slots[t], positions[t], :] = x[t, :]

struct CrossEntropy {
  Var loss;  // [1]: sum_t weights[t] * nll[t]
  Var nll;   // [T]: -log softmax(h[t] W^T)[labels[t]], 0 where weights[t] is 0
};
// Output projection and cross-entropy in one, in chunks of tokens: the logits are never stored
// whole. h: [T, D], w: [V, D], labels: [T] i32, weights: [T].
CrossEntropy linear_cross_entropy(Var h, Var w, Var labels, Var weights);

// Which elements dropout keeps, with probability 1 - p: bit i % 32 of word i / 32, [ceil(elements /
// 32)] i32; a function of (seed, stream, step, element). step: [2] i32 {step, micro step}.
Var dropout_mask(Var step, const DropoutMaskAttrs& attrs);
Var dropout(Var x, Var mask, const DropoutAttrs& attrs);  // x / (1 - p) where the mask keeps it

Var fold(Var x, const FoldAttrs& attrs);  // [T, N] -> [T, R]: sums of the groups
// [T, R] -> [T, N]: every member gets its group's value; fold's transpose. c is added, if it is
// there.
Var unfold(Var z, const FoldAttrs& attrs, Var c = {});
Var resize(Var x, const ResizeAttrs& attrs);  // [T, N] -> [T, size]: cut, or extended by zeros

// Features in another order, some negated. x: [T, N]; order: [N] i32, a permutation p with signs s:
// order[j] = p_j where s_j = 1, and -1 - p_j where s_j = -1.
Var permute(Var x, Var order, const PermuteAttrs& attrs);

// Cuts (or circularly extends) x to blocks of R features and rotates block b by table row b
// (half-split pairs). x: [T, in], table: [blocks, R] as for rope.
Var rotate_blocks(Var x, Var table, const RotateBlocksAttrs& attrs);

// One square matrix on every block of features that rotate_blocks makes, the results in a row, cut
// or repeated to `size` features:
//   forward:   y[t, j] = alpha * (M a_b)[c], a_b block b of x[t] turned, j mod (blocks R) = b R + c
//   backward:  its transpose, from [T, out] to [T, in]
// x: [T, in], m: [R, R], table: [blocks, R], both f32 where x is bf16. c is added, if it is there.
struct BlockProductInputs {
  Var x, m, table;
};
Var block_product(const BlockProductInputs& in, const BlockProductAttrs& attrs, Var c = {});

// d m of a forward block_product of x whose result has the gradient dy: [R, R], f32 of bf16.
struct BlockProductGradInputs {
  Var x, dy, table;
};
Var block_product_grad(const BlockProductGradInputs& in, const BlockProductAttrs& attrs);

// The sum of a product and a block_product: plans make it of the two where they are added.
Var matmul_block_product(const MatmulOperands& first, const BlockProductInputs& second,
                         const MatmulBlockProductAttrs& attrs, Var c = {});

// ||w[o] + scale * (b a)[o]|| of every row o. w: [out, in], may be stored in bf16 or f16; b: [out,
// R], a: [R, in]. Has no derivative: what uses it takes it for a constant.
Var row_norm(Var w, Var b, Var a, const RowNormAttrs& attrs);

// DoRA's change of a layer's output (Liu et al. 2024, eq. 5, as PEFT): with g = magnitude / norm,
// (g - 1) * base + g * low_rank in every row. base, low_rank: [T, N]; magnitude, norm: [N], norm a
// constant (section 4.3).
struct DoraInputs {
  Var base, low_rank, magnitude, norm;
};
Var dora(const DoraInputs& in);

void accumulate(Var target, Var x);  // target += x; target is bound memory
void clear(Var target);              // target = 0

Var squared_norm(Var x);  // [1]: sum of squares, in fixed chunks

// One AdamW step over flat blocks. gradient_norm2: [1], the squared global norm for clipping; a
// non-finite one skips the update. hyper: [3] f64 {learning rate, 1 - beta1^t, 1 - beta2^t}.
struct AdamWState {
  Var parameters, gradients, exp_avg, exp_avg_sq;
};
void adamw(const AdamWState& state, Var gradient_norm2, Var hyper, const AdamWAttrs& attrs);

}  // namespace mora
