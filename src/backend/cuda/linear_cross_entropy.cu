// loss = sum_t weights[t] * nll[t],  nll[t] = log sum_v exp(z[t, v]) - z[t, labels[t]],  z = h W^T
// dh = dz W,  dW = dz^T h,  dz[t, v] = weights[t] * (softmax(z[t])[v] - [v = labels[t]])     (for a
// loss gradient of 1)
//
// Works in chunks of tokens: only one chunk of logits exists at a time, in the working type, and dz
// takes its place, or is rounded beside it where h is bf16.
//                                                              h, dh: [T, D]  W, dW: [V, D]
#include "backend/cuda/convert.hpp"
#include "backend/cuda/kernels.hpp"
#include "backend/cuda/product.hpp"
#include "backend/cuda/reduce.hpp"
#include "backend/cuda/vectors.hpp"

namespace mora::cuda {

namespace {

constexpr int64_t kChunkElements = int64_t{1} << 26;   // logits held at once, unless that is fewer
constexpr int64_t kLeastRows = 256, kMostRows = 1024;  // than kLeastRows

int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// Tokens of a chunk: chunks are as equal as can be, and start where rows are aligned again.
int64_t chunk_rows(int64_t tokens, int64_t vocab) {
  constexpr int64_t kMultiple = 64;
  const int64_t most = std::clamp(kChunkElements / vocab, kLeastRows, kMostRows);
  const int64_t chunks = std::max<int64_t>(ceil_div(tokens, most), 1);
  return std::max<int64_t>(ceil_div(ceil_div(tokens, chunks), kMultiple), 1) * kMultiple;
}

// The products for chunks of one length; null for gradients that nobody reads.
struct ChunkProducts {
  std::unique_ptr<Product> logits, dh, dw;

  size_t scratch_bytes() const {
    size_t bytes = 0;
    for (const Product* product : {logits.get(), dh.get(), dw.get()}) {
      if (product != nullptr) bytes = std::max(bytes, product->scratch_bytes());
    }
    return bytes;
  }
};

ChunkProducts make_products(const OpCall& call, int64_t rows) {
  const int64_t width = call.in[0].shape.last(), vocab = call.in[1].shape[0];
  const DType dtype = call.in[0].dtype, working = working_of(dtype),
              w = dtype == DType::bf16 ? dtype : call.in[1].dtype;
  ChunkProducts p;
  if (rows == 0) return p;
  p.logits = prepare_product({.m = rows,
                              .k = width,
                              .n = vocab,
                              .tb = Transpose::yes,
                              .dtype = dtype,
                              .b_dtype = w,
                              .c_dtype = working});
  if (call.read[2]) {
    p.dh = prepare_product(
        {.m = rows, .k = vocab, .n = width, .dtype = dtype, .b_dtype = w, .c_dtype = dtype});
  }
  if (call.read[3]) {
    p.dw = prepare_product({.m = vocab,
                            .k = rows,
                            .n = width,
                            .ta = Transpose::yes,
                            .dtype = dtype,
                            .b_dtype = dtype,
                            .c_dtype = working});
  }
  return p;
}

struct State {
  int64_t chunk;
  ChunkProducts whole, rest;  // rest: the last, shorter chunk
  // Where what stands in scratch, after a chunk of logits: dz in bf16, W in bf16, the products'
  // own, nll in case nobody reads it.
  size_t dz, w, products, nll;
};

}  // namespace

Prepared prepare_linear_cross_entropy(const OpCall& call) {
  const int64_t tokens = call.in[0].shape[0], vocab = call.in[1].shape[0];
  auto state = std::make_shared<State>();
  state->chunk = chunk_rows(tokens, vocab);
  if (tokens >= state->chunk) state->whole = make_products(call, state->chunk);
  state->rest = make_products(call, tokens % state->chunk);
  const DType dtype = call.in[0].dtype, working = working_of(dtype);
  const int64_t logits = std::min(state->chunk, tokens) * vocab;
  const bool narrow = dtype == DType::bf16, round_w = narrow && call.in[1].dtype != dtype;
  state->dz = scratch_room(logits, working);
  state->w = state->dz + (narrow ? scratch_room(logits, dtype) : 0);
  state->products = state->w + (round_w ? scratch_room(call.in[1].shape.elements(), dtype) : 0);
  state->nll = state->products +
               std::max(state->whole.scratch_bytes(), state->rest.scratch_bytes()) / 256 * 256 +
               256;
  return {state->nll + scratch_room(tokens, working), state};
}

namespace {

template <class T, class S>
struct LossRows {
  const T* z;  // [rows, vocab]
  S* dz;       // over z, apart, or null
  const int32_t* labels;
  const T* weights;
  T* nll;
  int64_t vocab;
};

template <class T, int kCount>
__device__ Vec<T, kCount> exp_of(const Vec<T, kCount>& x, T top) {
  return vec_of<kCount>([&](int i) { return std::exp(x.at[i] - top); });
}

// sum = sum_i exp(x_i - top) of the numbers that a thread has seen.
template <class T>
struct Exponentials {
  T top = std::numeric_limits<T>::lowest();  // not infinite, as differences are taken
  T sum = 0;

  template <int kCount>
  __device__ void add(const Vec<T, kCount>& x) {
    T most = top;
    for (int i = 0; i < kCount; ++i) most = x.at[i] > most ? x.at[i] : most;
    sum = add_lanes(sum * std::exp(top - most), exp_of(x, most));
    top = most;
  }
};

// A block makes nll and dz of one row. It reads the row twice, the second time from the cache if
// that is large enough.
template <class L, class T, class S>
__global__ void softmax_gradient_kernel(LossRows<T, S> rows) {
  __shared__ T warps[kWarp];
  const int64_t row = blockIdx.x, step = int64_t{blockDim.x} * L::kCount,
                begin = int64_t{threadIdx.x} * L::kCount;
  const T* z = rows.z + row * rows.vocab;
  S* dz = rows.dz == nullptr ? nullptr : rows.dz + row * rows.vocab;
  const T weight = rows.weights[row];
  if (weight == T(0)) {  // what its label is does not matter
    for (int64_t i = begin; dz != nullptr && i < rows.vocab; i += step)
      store(dz + i, Vec<T, L::kCount>{}, L{});
    if (threadIdx.x == 0) rows.nll[row] = T(0);
    return;
  }
  const int64_t label = rows.labels[row];
  const T at_label = z[label];  // before dz is written over it
  Exponentials<T> seen;
  for (int64_t i = begin; i < rows.vocab; i += step) seen.add(load(z + i, L{}));
  const T top = block_max(seen.top, warps);
  const T total = block_sum(seen.sum * std::exp(seen.top - top), warps);
  if (threadIdx.x == 0) rows.nll[row] = std::log(total) - (at_label - top);
  const T factor = weight / total;
  for (int64_t i = begin; dz != nullptr && i < rows.vocab; i += step) {
    Vec<T, L::kCount> d = factor * exp_of(load(z + i, L{}), top);
    for (int j = 0; j < L::kCount; ++j) d.at[j] -= i + j == label ? weight : T(0);
    store(dz + i, d, L{});
  }
}

// Rows of scratch memory: packs of a row are aligned where they are whole.
template <class T, class S>
void softmax_gradient(const LossRows<T, S>& rows, int64_t count) {
  using Packed = Lanes<kLanes<T>, Access::packed>;
  constexpr int64_t kMostThreads = 512;
  const bool whole = rows.vocab % Packed::kCount == 0;
  const int64_t packs = whole ? rows.vocab / Packed::kCount : rows.vocab,
                threads = std::min(ceil_div(packs, kWarp) * kWarp, kMostThreads);
  launch({.blocks = dim3(static_cast<unsigned>(count)),
          .threads = dim3(static_cast<unsigned>(threads))},
         whole ? &softmax_gradient_kernel<Packed, T, S> : &softmax_gradient_kernel<OneLane, T, S>,
         rows);
}

// One block, in f64.
template <class T>
__global__ void weighted_sum_kernel(const T* weights, const T* nll, int64_t tokens, T* loss) {
  __shared__ double warps[kWarp];
  double sum = 0;
  for (int64_t t = threadIdx.x; t < tokens; t += blockDim.x)
    sum += static_cast<double>(weights[t]) * static_cast<double>(nll[t]);
  sum = block_sum(sum, warps);
  if (threadIdx.x == 0) *loss = static_cast<T>(sum);
}

// W, in bf16 where h is.
template <class S>
const void* weight_as_stored(const Tensor& w, std::byte* place) {
  if (!std::is_same_v<S, bf16> || w.dtype() == DType::bf16) return w.data;
  convert_rows({w.data, w.dtype(), w.shape()[0], w.shape()[1], w.shape()[1]}, place);
  return place;
}

}  // namespace

template <class S>
void linear_cross_entropy(const KernelArgs& args) {
  using T = Working<S>;
  const auto& state = *static_cast<const State*>(args.state);
  const auto* h = ptr<const S>(args.in[0]);
  const auto* labels = ptr<const int32_t>(args.in[2]);
  const auto* weights = ptr<const T>(args.in[3]);
  const int64_t tokens = args.in[0].shape()[0], width = args.in[0].shape().last(),
                vocab = args.in[1].shape()[0];
  auto* scratch = static_cast<std::byte*>(args.scratch);
  auto* z = reinterpret_cast<T*>(scratch);
  auto* products = scratch + state.products;
  auto* nll = args.out[1] ? ptr<T>(args.out[1]) : reinterpret_cast<T*>(scratch + state.nll);
  auto* dh = ptr<S>(args.out[2]);
  auto* dw = ptr<T>(args.out[3]);
  S* dz = nullptr;
  if (dh != nullptr || dw != nullptr)
    dz = reinterpret_cast<S*>(scratch + (std::is_same_v<S, T> ? 0 : state.dz));
  if (dw != nullptr && tokens == 0) cudaMemsetAsync(dw, 0, args.out[3].bytes(), stream());
  const void* w = weight_as_stored<S>(args.in[1], scratch + state.w);
  for (int64_t t = 0; t < tokens; t += state.chunk) {
    const int64_t rows = std::min(state.chunk, tokens - t);
    const ChunkProducts& p = rows == state.chunk ? state.whole : state.rest;
    p.logits->run({h + t * width, w, nullptr, z}, products);
    softmax_gradient<T, S>({z, dz, labels + t, weights + t, nll + t, vocab}, rows);
    if (dh != nullptr) p.dh->run({dz, w, nullptr, dh + t * width}, products);
    if (dw != nullptr) p.dw->run({dz, h + t * width, t == 0 ? nullptr : dw, dw}, products);
  }
  if (!args.out[0]) return;
  launch({.blocks = dim3(1), .threads = dim3(256)}, &weighted_sum_kernel<T>, weights, nll, tokens,
         ptr<T>(args.out[0]));
}

MORA_CUDA_ACTIVATION_KERNEL(linear_cross_entropy)

}  // namespace mora::cuda
