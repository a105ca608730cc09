// dM[c, c'] = alpha * sum over tokens and blocks of d_b[c] a_b[c'], with a and d as in
// block_fill.hpp: block b of x turned, and what of dy belongs to it. Both are made for some tokens
// at a time, in the cache. Tokens are cut into chunks by their number, whose sums are added in
// order.                               x: [T, in]  dy: [T, out]  table: [blocks, R]  dM: [R, R]
#include "backend/cpu/block_fill.hpp"
#include "backend/cpu/product.hpp"

namespace mora::cpu {

namespace {

constexpr int64_t kMostChunks = 16, kLeastTokens = 128;
constexpr int64_t kMostSums = int64_t{1} << 22, kMostRows = int64_t{1} << 16;  // numbers

// How the work is cut, and where what lies in scratch memory: A is what products are made of.
template <class A>
struct Cut {
  using T = Working<A>;
  static constexpr bool kAmx = std::is_same_v<A, bf16>;

  int64_t width, chunk, step;    // tokens of a chunk, and of a step in it
  int64_t stride, rows, chunks;  // of rows; rows of a step: blocks follow each other

  Cut(int64_t tokens, int64_t count, int64_t w) : width(w), stride(rounded_up(w, kLanes<T>)) {
    const int64_t most = std::clamp<int64_t>(kMostSums / (w * w), 2, kMostChunks);
    chunk = std::max(kLeastTokens, pieces(tokens, most));
    step = std::min(chunk, pieces(std::max(kMostRows / w, amx::kDepth), count));
    rows = rounded_up(step * count, amx::kDepth);
    chunks = pieces(tokens, chunk);
  }

  size_t sums_bytes() const { return scratch_room(width * stride, dtype_of<T>()); }
  size_t rows_bytes() const { return scratch_room(rows * stride, dtype_of<A>()); }
  size_t packed_bytes() const {
    return kAmx ? scratch_room(amx::packed_elements(rows, width), DType::bf16) : 0;
  }
  size_t turned_bytes() const { return kAmx ? scratch_room(width * rows, DType::bf16) : 0; }
  size_t slot_bytes() const { return 2 * rows_bytes() + packed_bytes() + turned_bytes(); }
};

template <class S, class A>
class Gradient {
  using T = Working<S>;

 public:
  explicit Gradient(const KernelArgs& args)
      : x_(ptr<const S>(args.in[0])),
        dy_(ptr<const S>(args.in[1])),
        tokens_(args.in[0].shape()[0]),
        out_(args.in[1].shape().last()),
        blocks_{ptr<const T>(args.in[2]), args.in[2].shape()[0], args.in[2].shape().last(),
                args.in[0].shape().last()},
        cut_(tokens_, blocks_.count, blocks_.width) {}

  // On `slots` threads at most.
  void run(double alpha, int64_t slots, T* dm, std::byte* scratch) const {
    auto* rooms = scratch + cut_.sums_bytes() * static_cast<size_t>(cut_.chunks);
    for_panels(cut_.chunks, slots, [&](int64_t chunk, int64_t slot) {
      add_chunk(chunk, sums_of(scratch, chunk),
                rooms + cut_.slot_bytes() * static_cast<size_t>(slot));
    });
    parallel_pieces(cut_.width, rows_per_piece(cut_.width), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        add_up(scratch, i, static_cast<T>(alpha), dm + i * cut_.width);
    });
  }

 private:
  T* sums_of(std::byte* scratch, int64_t chunk) const {
    return reinterpret_cast<T*>(scratch + cut_.sums_bytes() * static_cast<size_t>(chunk));
  }

  void add_up(std::byte* scratch, int64_t i, T alpha, T* to) const {
    each_vector<T>(cut_.width, [&](int64_t j, int64_t k) {
      Vec<T> sum{};
      for (int64_t chunk = 0; chunk < cut_.chunks; ++chunk)
        sum += load(sums_of(scratch, chunk) + i * cut_.stride + j);
      store(to + j, alpha * sum, k);
    });
  }

  void add_chunk(int64_t chunk, T* sums, std::byte* room) const {
    auto *a = reinterpret_cast<A*>(room), *d = reinterpret_cast<A*>(room + cut_.rows_bytes());
    auto* more = room + 2 * cut_.rows_bytes();
    std::fill_n(a, cut_.rows * cut_.stride, value_as<A>(T(0)));  // behind the width
    const int64_t first = chunk * cut_.chunk, end = std::min(first + cut_.chunk, tokens_);
    for (int64_t t = first; t < end; t += cut_.step) {
      const int64_t tokens = std::min(cut_.step, end - t);
      for (int64_t b = 0; b < blocks_.count; ++b) {
        const int64_t at = b * tokens * cut_.stride;
        blocks_.turn(b, tokens, RowsAt<const S>{x_ + t * blocks_.features, blocks_.features},
                     RowsAt<A>{a + at, cut_.stride});
        fold_block(blocks_, b, tokens, RowsAt<const S>{dy_ + t * out_, out_}, out_,
                   RowsAt<A>{d + at, cut_.stride});
      }
      multiply(tokens * blocks_.count, d, a, sums, t == first ? Store::assign : Store::add, more);
    }
  }

  // sums (+)= d^T a
  void multiply(int64_t rows, const A* d, const A* a, T* sums, Store store_as,
                std::byte* room) const {
    if constexpr (Cut<A>::kAmx) {
      auto* packed = reinterpret_cast<bf16*>(room);
      auto* turned = reinterpret_cast<bf16*>(room + cut_.packed_bytes());
      amx::transpose_a({d, cut_.stride}, cut_.width, rows, turned, cut_.rows);
      amx::pack_b(amx::Rows{a, cut_.stride}, Transpose::no, rows, cut_.width, packed);
      amx::Tiles tiles;
      amx::multiply(tiles, cut_.width, cut_.width, {rows, {turned, cut_.rows}, packed}, sums,
                    cut_.stride, store_as);
    } else {
      block_gemm(cut_.width, cut_.stride, rows, Strided<T>{d, 1, cut_.stride}, a, cut_.stride, sums,
                 cut_.stride, store_as);
    }
  }

  const S *x_, *dy_;
  int64_t tokens_, out_;
  TurnedBlocks<T> blocks_;
  Cut<A> cut_;
};

struct State {
  Kernel run;
  int64_t slots;
};

template <class S, class A>
void run(const KernelArgs& args) {
  Gradient<S, A>(args).run(args.attrs.as<BlockProductAttrs>().alpha,
                           static_cast<const State*>(args.state)->slots,
                           ptr<Working<S>>(args.out[0]), static_cast<std::byte*>(args.scratch));
}

template <class S, class A>
Prepared prepare(const OpCall& call) {
  const Shape& table = call.in[2].shape;
  const Cut<A> cut(call.in[0].shape[0], table[0], table.last());
  const auto slots = std::min<int64_t>(cut.chunks, thread_count());
  return {cut.sums_bytes() * static_cast<size_t>(cut.chunks) +
              cut.slot_bytes() * static_cast<size_t>(slots),
          std::make_shared<State>(State{run<S, A>, slots})};
}

}  // namespace

Prepared prepare_block_product_grad(const OpCall& call, MatmulProvider provider) {
  const DType dtype = call.in[0].dtype;
  if (dtype == DType::f64) return prepare<double, double>(call);
  if (dtype == DType::f32) return prepare<float, float>(call);
  if (multiplies_by_amx(dtype, provider)) return prepare<bf16, bf16>(call);
  return prepare<bf16, float>(call);
}

template <class S>
void block_product_grad(const KernelArgs& args) {
  static_cast<const State*>(args.state)->run(args);
}

MORA_CPU_ACTIVATION_KERNEL(block_product_grad)

}  // namespace mora::cpu
