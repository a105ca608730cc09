// loss = sum_t weights[t] * nll[t],  nll[t] = log sum_v exp(z[t, v]) - z[t, labels[t]],  z = h W^T
// dh = dz W,  dW = dz^T h,  dz[t, v] = weights[t] * (softmax(z[t])[v] - [v = labels[t]])     (for a
// loss gradient of 1)
//
// Works in chunks of tokens: only one chunk of logits exists at a time, and dz takes its place.
//                                                                                h, dh: [T, D]  W,
//                                                                                dW: [V, D]
#include <algorithm>
#include <cmath>

#include "backend/cpu/kernels.hpp"
#include "backend/cpu/product.hpp"
#include "backend/cpu/simd.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

namespace {

constexpr int64_t kChunkElements =
    int64_t{1} << 24;  // logits held at once, unless that is fewer than kLeastRows
constexpr int64_t kLeastRows = 64, kMostRows = 1024;

// The products for chunks of one length.
struct ChunkProducts {
  int64_t rows;
  std::unique_ptr<Product> logits, dh, dw_first, dw_next;
};

struct State {
  int64_t chunk;
  ChunkProducts whole, rest;  // rest: the last, shorter chunk
  size_t logits_bytes, product_bytes;
};

ChunkProducts make_products(const OpCall& call, int64_t rows, MatmulProvider provider) {
  const int64_t width = call.in[0].shape.last(), vocab = call.in[1].shape[0];
  const DType dtype = call.in[0].dtype, w = call.in[1].dtype;
  ChunkProducts p{.rows = rows, .logits = {}, .dh = {}, .dw_first = {}, .dw_next = {}};
  if (rows == 0) return p;
  p.logits = prepare_product(
      {.m = rows, .k = width, .n = vocab, .tb = Transpose::yes, .dtype = dtype, .b_dtype = w},
      provider);
  if (call.read[2]) {
    p.dh = prepare_product({.m = rows, .k = vocab, .n = width, .dtype = dtype, .b_dtype = w},
                           provider);
  }
  if (call.read[3]) {
    ProductShape dw{
        .m = vocab, .k = rows, .n = width, .ta = Transpose::yes, .dtype = dtype, .b_dtype = dtype};
    p.dw_first = prepare_product(dw, provider);
    dw.addend = Addend::result;
    p.dw_next = prepare_product(dw, provider);
  }
  return p;
}

size_t most_scratch(const ChunkProducts& p) {
  size_t bytes = 0;
  for (const Product* product : {p.logits.get(), p.dh.get(), p.dw_first.get(), p.dw_next.get()}) {
    if (product != nullptr) bytes = std::max(bytes, product->scratch_bytes());
  }
  return bytes;
}

}  // namespace

Prepared prepare_linear_cross_entropy(const OpCall& call, MatmulProvider provider) {
  const int64_t tokens = call.in[0].shape[0], vocab = std::max<int64_t>(call.in[1].shape[0], 1);
  auto state = std::make_shared<State>();
  state->chunk = std::min(std::clamp(kChunkElements / vocab, kLeastRows, kMostRows),
                          std::max<int64_t>(tokens, 1));
  state->whole = make_products(call, std::min(state->chunk, tokens), provider);
  state->rest = make_products(call, tokens % state->chunk, provider);
  state->logits_bytes =
      (static_cast<size_t>(state->chunk * vocab) * size_of(call.in[0].dtype) + 63) / 64 * 64;
  state->product_bytes = std::max(most_scratch(state->whole), most_scratch(state->rest));
  const size_t nll_bytes =
      static_cast<size_t>(tokens) * size_of(call.in[0].dtype);  // in case nobody reads nll
  return {state->logits_bytes + state->product_bytes + nll_bytes, state};
}

namespace {

// Turns one row of logits into dz and returns its nll.
template <class T>
T softmax_gradient(T* z, int64_t vocab, int32_t label, T weight) {
  if (weight == T(0)) {
    std::fill_n(z, vocab, T(0));
    return T(0);
  }
  T top = z[0];
  for (int64_t v = 1; v < vocab; ++v) top = std::max(top, z[v]);
  const T target = z[label] - top;
  Vec<T> lanes{};
  int64_t v = 0;
  for (; v + kLanes<T> <= vocab; v += kLanes<T>) {
    for (int64_t i = 0; i < kLanes<T>; ++i) z[v + i] = exponential(z[v + i] - top);
    lanes += load(z + v);
  }
  T total = lane_sum<T>(lanes);
  for (; v < vocab; ++v) total += z[v] = exponential(z[v] - top);
  const T factor = weight / total;
  for (int64_t i = 0; i < vocab; ++i) z[i] *= factor;
  z[label] -= weight;
  return std::log(total) - target;
}

}  // namespace

template <class T>
void linear_cross_entropy(const KernelArgs& args) {
  const auto& state = *static_cast<const State*>(args.state);
  const auto *h = ptr<const T>(args.in[0]), *weights = ptr<const T>(args.in[3]);
  const auto* labels = ptr<const int32_t>(args.in[2]);
  const int64_t tokens = args.in[0].shape()[0], width = args.in[0].shape().last(),
                vocab = args.in[1].shape()[0];
  auto* z = static_cast<T*>(args.scratch);
  auto* products = static_cast<std::byte*>(args.scratch) + state.logits_bytes;
  auto* nll =
      args.out[1] ? ptr<T>(args.out[1]) : reinterpret_cast<T*>(products + state.product_bytes);
  auto *dh = ptr<T>(args.out[2]), *dw = ptr<T>(args.out[3]);
  if (dw != nullptr && tokens == 0) std::fill_n(dw, args.out[3].elements(), T(0));
  for (int64_t t = 0; t < tokens; t += state.chunk) {
    const ChunkProducts& p = t + state.chunk <= tokens ? state.whole : state.rest;
    p.logits->run(h + t * width, args.in[1].data, z, products);
    parallel_pieces(p.rows, rows_per_piece(vocab), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        nll[t + i] = softmax_gradient(z + i * vocab, vocab, labels[t + i], weights[t + i]);
      }
    });
    if (dh != nullptr) p.dh->run(z, args.in[1].data, dh + t * width, products);
    if (dw != nullptr) (t == 0 ? p.dw_first : p.dw_next)->run(z, h + t * width, dw, products);
  }
  if (!args.out[0]) return;
  double loss = 0;
  for (int64_t t = 0; t < tokens; ++t)
    loss += static_cast<double>(weights[t]) * static_cast<double>(nll[t]);
  ptr<T>(args.out[0])[0] = static_cast<T>(loss);
}

MORA_CPU_KERNEL(linear_cross_entropy)

}  // namespace mora::cpu
