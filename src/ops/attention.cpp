// Causal grouped-query attention over packed segments, and over a key-value cache.
#include "ops/define.hpp"

namespace mora {

namespace {

// Returns head_dim.
int64_t check_heads(const Type& q, const AttentionAttrs& a) {
  check_activation(q, "q");
  check(q.shape.rank() == 2, "q must be [T, heads * head_dim], got ", q);
  check(a.heads > 0 && a.kv_heads > 0 && a.heads % a.kv_heads == 0, a.heads, " heads cannot share ",
        a.kv_heads, " key-value heads evenly");
  check(q.shape.last() % a.heads == 0, "q is ", q.shape, ", not divisible into ", a.heads,
        " heads");
  return q.shape.last() / a.heads;
}

std::vector<Type> infer(std::span<const Type> in, const Attrs& attrs) {
  check_count(in, 4, 4);
  const auto a = attrs.as<AttentionAttrs>();
  const int64_t head_dim = check_heads(in[0], a), tokens = in[0].shape[0];
  const Type kv{in[0].dtype, {tokens, a.kv_heads * head_dim}};
  check_type(in[1], kv, "k");
  check_type(in[2], kv, "v");
  check_index(in[3], tokens, "segment_start");
  return {in[0], {working_of(in[0].dtype), {tokens, a.heads}}};
}

std::vector<Var> vjp(const VjpArgs& g) {
  check(!g.dout[1], "attention has no derivative through lse");
  const auto d = emit(op_records::attention_grad, g.node.attrs, g.in[0], g.in[1], g.in[2], g.in[3],
                      g.out[0], g.out[1], g.dout[0]);
  return {g.wants(0) ? d[0] : Var{}, g.wants(1) ? d[1] : Var{}, g.wants(2) ? d[2] : Var{}, {}};
}

std::vector<Type> infer_grad(std::span<const Type> in, const Attrs& attrs) {
  check_count(in, 7, 7);
  const auto forward = infer(in.first(4), attrs);
  check_type(in[4], forward[0], "y");
  check_type(in[5], forward[1], "lse");
  check_type(in[6], forward[0], "dy");
  return {in[0], in[1], in[2]};
}

// Two products over the pairs of tokens that see each other; the gradient has five.
template <int Products>
double flops(std::span<const Tensor> in, std::span<const Tensor>, const Attrs&) {
  const auto starts = in[3].as<int32_t>();
  double pairs = 0;
  for (size_t t = 0; t < starts.size(); ++t)
    pairs += static_cast<double>(static_cast<int64_t>(t) - starts[t] + 1);
  return 2.0 * Products * pairs * static_cast<double>(in[0].shape().last());
}

void check_cache(const Type& cache, DType dtype, int64_t width, std::string_view what) {
  check(cache.dtype == dtype && cache.shape.rank() == 3 && cache.shape.last() == width, what,
        " must be ", dtype, "[slots, capacity, ", width, "], got ", cache);
}

std::vector<Type> infer_cached(std::span<const Type> in, const Attrs& attrs) {
  check_count(in, 5, 5);
  const auto a = attrs.as<AttentionAttrs>();
  check_working(in[0], "q");
  const int64_t head_dim = check_heads(in[0], a), tokens = in[0].shape[0];
  check_cache(in[1], in[0].dtype, a.kv_heads * head_dim, "k_cache");
  check_type(in[2], in[1], "v_cache");
  check_index(in[3], tokens, "slots");
  check_index(in[4], tokens, "positions");
  return {in[0]};
}

std::vector<Type> infer_write(std::span<const Type> in, const Attrs&) {
  check_count(in, 4, 4);
  check_working(in[1], "x");
  check(in[1].shape.rank() == 2, "x must be [T, width], got ", in[1]);
  check_cache(in[0], in[1].dtype, in[1].shape.last(), "cache");
  check_index(in[2], in[1].shape[0], "slots");
  check_index(in[3], in[1].shape[0], "positions");
  return {};
}

}  // namespace

const Op op_records::attention{.name = "attention",
                               .id = static_cast<int>(OpId::attention),
                               .infer = infer,
                               .vjp = vjp,
                               .flops = flops<2>};
const Op op_records::attention_grad{.name = "attention_grad",
                                    .id = static_cast<int>(OpId::attention_grad),
                                    .infer = infer_grad,
                                    .flops = flops<5>};
const Op op_records::cached_attention{.name = "cached_attention",
                                      .id = static_cast<int>(OpId::cached_attention),
                                      .infer = infer_cached};
const Op op_records::cache_write{.name = "cache_write",
                                 .id = static_cast<int>(OpId::cache_write),
                                 .infer = infer_write,
                                 .mutates = 1u};

Attended attention(Var q, Var k, Var v, Var segment_start, const AttentionAttrs& attrs) {
  const auto out = emit(op_records::attention, attrs, q, k, v, segment_start);
  return {out[0], out[1]};
}

Var cached_attention(Var q, Var k_cache, Var v_cache, Var slots, Var positions,
                     const AttentionAttrs& attrs) {
  return emit(op_records::cached_attention, attrs, q, k_cache, v_cache, slots, positions)[0];
}

void cache_write(Var cache, Var x, Var slots, Var positions) {
  emit(op_records::cache_write, {}, cache, x, slots, positions);
}

}  // namespace mora
