// loss = sum_t weights[t] * nll[t],  nll[t] = log sum_v exp(z[t, v]) - z[t, labels[t]],  z = h W^T
// dh = dz W,  dW = dz^T h,  dz[t, v] = weights[t] * (softmax(z[t])[v] - [v = labels[t]])     (for a
// loss gradient of 1)
//
// Works in chunks of tokens: only one chunk of logits exists at a time, in the working type, and dz
// takes its place, or is rounded beside it where h is bf16.
//                                                                                h, dh: [T, D]  W,
//                                                                                dW: [V, D]
#include <algorithm>
#include <cmath>

#include "backend/cpu/kernels.hpp"
#include "backend/cpu/linear_cross_entropy_blocks.hpp"
#include "backend/cpu/pieces.hpp"
#include "backend/cpu/product.hpp"
#include "backend/cpu/simd.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

namespace {

constexpr int64_t kChunkElements =
    int64_t{1} << 24;  // logits held at once, unless that is fewer than kLeastRows
constexpr int64_t kLeastRows = 64, kMostRows = 1024;

// Tokens of a chunk: chunks are as equal as can be, as a short one costs nearly as much as a whole.
int64_t chunk_rows(int64_t tokens, int64_t vocab) {
  const int64_t most = std::clamp(kChunkElements / vocab, kLeastRows, kMostRows);
  const int64_t chunks = std::max<int64_t>(pieces(tokens, most), 1);
  return std::max<int64_t>(pieces(tokens, chunks), 1);
}

// The products for chunks of one length.
struct ChunkProducts {
  int64_t rows;
  std::unique_ptr<Product> logits, dh, dw_first, dw_next;
};

struct State {
  Prepared by_blocks;  // if that makes it all
  int64_t chunk;
  ChunkProducts whole, rest;  // rest: the last, shorter chunk
  // Where what stands in scratch: a chunk of logits, dz in bf16, W in bf16, the products' own, nll
  // in case nobody reads it.
  size_t dz, w, products, nll, bytes;
};

ChunkProducts make_products(const OpCall& call, int64_t rows, MatmulProvider provider) {
  const int64_t width = call.in[0].shape.last(), vocab = call.in[1].shape[0];
  const DType dtype = call.in[0].dtype, working = working_of(dtype),
              w = dtype == DType::bf16 ? dtype : call.in[1].dtype;
  ChunkProducts p{.rows = rows, .logits = {}, .dh = {}, .dw_first = {}, .dw_next = {}};
  if (rows == 0) return p;
  p.logits = prepare_product({.m = rows,
                              .k = width,
                              .n = vocab,
                              .tb = Transpose::yes,
                              .dtype = dtype,
                              .b_dtype = w,
                              .c_dtype = working},
                             provider);
  if (call.read[2]) {
    p.dh = prepare_product(
        {.m = rows, .k = vocab, .n = width, .dtype = dtype, .b_dtype = w, .c_dtype = dtype},
        provider);
  }
  if (call.read[3]) {
    ProductShape dw{.m = vocab,
                    .k = rows,
                    .n = width,
                    .ta = Transpose::yes,
                    .dtype = dtype,
                    .b_dtype = dtype,
                    .c_dtype = working};
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
  if (takes_loss_by_blocks(call, provider)) {
    state->by_blocks = prepare_loss_by_blocks(call);
    return {state->by_blocks.scratch_bytes, state};
  }
  state->chunk = chunk_rows(tokens, vocab);
  state->whole = make_products(call, std::min(state->chunk, tokens), provider);
  state->rest = make_products(call, tokens % state->chunk, provider);
  const DType dtype = call.in[0].dtype, working = working_of(dtype);
  const int64_t logits = state->chunk * vocab;
  const bool narrow = dtype == DType::bf16, round_w = narrow && call.in[1].dtype != dtype;
  state->dz = scratch_room(logits, working);
  state->w = state->dz + (narrow ? scratch_room(logits, dtype) : 0);
  state->products = state->w + (round_w ? scratch_room(call.in[1].shape.elements(), dtype) : 0);
  state->nll = state->products + std::max(most_scratch(state->whole), most_scratch(state->rest));
  state->bytes = state->nll + scratch_room(tokens, working);
  return {state->bytes, state};
}

namespace {

// Writes dz of one row of logits, which may be over them, and returns its nll.
template <class T, class S>
T softmax_gradient(T* z, int64_t vocab, int32_t label, T weight, S* dz) {
  if (weight == T(0)) {
    std::fill_n(dz, vocab, value_as<S>(T(0)));
    return T(0);
  }
  const T top = largest(z, vocab), target = z[label] - top;
  const T total = exponentials(z, vocab, top);
  const T factor = weight / total;
  const T at_label = z[label] * factor - weight;
#pragma GCC ivdep
  for (int64_t i = 0; i < vocab; ++i) dz[i] = value_as<S>(z[i] * factor);
  dz[label] = value_as<S>(at_label);
  return std::log(total) - target;
}

// W, in bf16 where h is.
template <class S>
const void* weight_as_stored(const KernelArgs& args, std::byte* place) {
  if constexpr (std::is_same_v<S, bf16>) {
    if (args.in[1].dtype() == DType::f32) {
      round_to_bf16(ptr<const float>(args.in[1]), args.in[1].elements(),
                    reinterpret_cast<bf16*>(place));
      return place;
    }
  }
  return args.in[1].data;
}

}  // namespace

template <class S>
void linear_cross_entropy(const KernelArgs& args) {
  using T = Working<S>;
  const auto& state = *static_cast<const State*>(args.state);
  if (state.by_blocks.state) return loss_by_blocks(args, state.by_blocks.state.get());
  const auto* h = ptr<const S>(args.in[0]);
  const auto* weights = ptr<const T>(args.in[3]);
  const auto* labels = ptr<const int32_t>(args.in[2]);
  const int64_t tokens = args.in[0].shape()[0], width = args.in[0].shape().last(),
                vocab = args.in[1].shape()[0];
  auto* scratch = static_cast<std::byte*>(args.scratch);
  auto* z = reinterpret_cast<T*>(scratch);
  auto* dz =
      std::is_same_v<S, T> ? reinterpret_cast<S*>(z) : reinterpret_cast<S*>(scratch + state.dz);
  auto* products = scratch + state.products;
  auto* nll = args.out[1] ? ptr<T>(args.out[1]) : reinterpret_cast<T*>(scratch + state.nll);
  auto* dh = ptr<S>(args.out[2]);
  auto* dw = ptr<T>(args.out[3]);
  const void* w = weight_as_stored<S>(args, scratch + state.w);
  if (dw != nullptr && tokens == 0) std::fill_n(dw, args.out[3].elements(), T(0));
  for (int64_t t = 0; t < tokens; t += state.chunk) {
    const ChunkProducts& p = t + state.chunk <= tokens ? state.whole : state.rest;
    p.logits->run(h + t * width, w, z, products);
    parallel_pieces(p.rows, rows_per_piece(vocab), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        nll[t + i] =
            softmax_gradient(z + i * vocab, vocab, labels[t + i], weights[t + i], dz + i * vocab);
      }
    });
    if (dh != nullptr) p.dh->run(dz, w, dh + t * width, products);
    if (dw != nullptr) (t == 0 ? p.dw_first : p.dw_next)->run(dz, h + t * width, dw, products);
  }
  if (!args.out[0]) return;
  double loss = 0;
  for (int64_t t = 0; t < tokens; ++t)
    loss += static_cast<double>(weights[t]) * static_cast<double>(nll[t]);
  ptr<T>(args.out[0])[0] = static_cast<T>(loss);
}

MORA_CPU_ACTIVATION_KERNEL(linear_cross_entropy)

}  // namespace mora::cpu
