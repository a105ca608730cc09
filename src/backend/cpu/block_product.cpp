// y = alpha P(m) x + c, P(m) as in block_fill.hpp: M on every turned block of features, or the
// transpose of that; and the same with a product in the place of c, which is added to it panel by
// panel.               x: [T, in]  m: [R, R]  table: [blocks, R]  c, y: [T, size]
#include "backend/cpu/block_fill.hpp"
#include "backend/cpu/matmul.hpp"

namespace mora::cpu {

namespace {

// Where the operands of P stand among the inputs of a call.
struct Inputs {
  size_t x, addend;
  BlockProductAttrs attrs;
};

struct State {
  bool by_amx;
  FillNeeds needs;
  size_t packed_bytes;                     // of M; the rest of the scratch memory follows
  std::unique_ptr<WholeFill> whole;        // of block_product,
  std::unique_ptr<FilledProduct> product;  // or of matmul_block_product
};

Inputs inputs_of(const Attrs& attrs) {
  return {.x = 0, .addend = 3, .attrs = attrs.as<BlockProductAttrs>()};
}
Inputs inputs_of_sum(const Attrs& attrs) {
  return {.x = 2, .addend = 5, .attrs = attrs.as<MatmulBlockProductAttrs>().second};
}

template <class T>
TurnedBlocks<T> blocks_of(const void* table, const Shape& shape, Direction direction,
                          int64_t x_features, int64_t y_features) {
  return {static_cast<const T*>(table), shape[0], shape.last(),
          direction == Direction::forward ? x_features : y_features};
}

template <class S, class A>
void set_needs(const OpCall& call, const Inputs& in, State& state) {
  const Direction direction = in.attrs.direction;
  const Shape& table = call.in[in.x + 2].shape;
  const auto blocks =
      blocks_of<Working<S>>(nullptr, table, direction, call.in[in.x].shape.last(), in.attrs.size);
  state.needs = BlockFill<S, A, S>::needs(blocks, direction, in.attrs.size);
  state.packed_bytes = SquareFactor<A>{blocks.width}.packed_bytes();
}

std::shared_ptr<State> prepare(const OpCall& call, const Inputs& in, MatmulProvider provider) {
  const DType dtype = call.in[in.x].dtype;
  auto state = std::make_shared<State>();
  state->by_amx = multiplies_by_amx(dtype, provider);
  if (dtype == DType::f64) {
    set_needs<double, double>(call, in, *state);
  } else if (dtype == DType::f32) {
    set_needs<float, float>(call, in, *state);
  } else if (state->by_amx) {
    set_needs<bf16, bf16>(call, in, *state);
  } else {
    set_needs<bf16, float>(call, in, *state);
  }
  return state;
}

// use(fill, scratch) with what makes panels of the result.
template <class S, class A, class C, class Use>
void with_fill_of(const KernelArgs& args, const Inputs& in, const Use& use) {
  using T = Working<S>;
  const auto& state = *static_cast<const State*>(args.state);
  const Tensor &x = args.in[in.x], &table = args.in[in.x + 2], &y = args.out[0];
  const bool adds = in.addend < args.in.size(), forward = in.attrs.direction == Direction::forward;
  if (adds) copy_addend(args.in[in.addend], y);
  auto* packed = static_cast<std::byte*>(args.scratch);
  const auto blocks =
      blocks_of<T>(table.data, table.shape(), in.attrs.direction, x.shape().last(), in.attrs.size);
  SquareFactor<A>{blocks.width}.pack(ptr<const T>(args.in[in.x + 1]),
                                     forward ? Transpose::yes : Transpose::no, in.attrs.alpha,
                                     packed);
  const BlockFill<S, A, C> fill(blocks, in.attrs.direction,
                                {ptr<const S>(x), x.shape().last(), ptr<C>(y), in.attrs.size},
                                packed, adds ? Store::add : Store::assign);
  use(fill, packed + state.packed_bytes);
}

template <class S, class A, class Use>
void with_fill_by(const KernelArgs& args, const Inputs& in, const Use& use) {
  if (args.out[0].dtype() == dtype_of<S>()) return with_fill_of<S, A, S>(args, in, use);
  with_fill_of<S, A, Working<S>>(args, in, use);
}

template <class S, class Use>
void with_fill(const KernelArgs& args, const Inputs& in, const Use& use) {
  if constexpr (std::is_same_v<S, bf16>) {
    if (static_cast<const State*>(args.state)->by_amx) return with_fill_by<S, bf16>(args, in, use);
  }
  with_fill_by<S, Working<S>>(args, in, use);
}

}  // namespace

Prepared prepare_block_product(const OpCall& call, MatmulProvider provider) {
  const Inputs in = inputs_of(call.attrs);
  auto state = prepare(call, in, provider);
  state->whole = std::make_unique<WholeFill>(state->needs, call.in[0].shape.rows(), in.attrs.size);
  return {state->packed_bytes + state->whole->scratch_bytes(), state};
}

Prepared prepare_matmul_block_product(const OpCall& call, MatmulProvider provider) {
  auto state = prepare(call, inputs_of_sum(call.attrs), provider);
  const MatmulTerm term = call.attrs.as<MatmulBlockProductAttrs>().first;
  state->product = prepare_filled_product(shape_of(call, 0, term, true), state->needs, provider);
  return {state->packed_bytes + state->product->scratch_bytes(), state};
}

template <class S>
void block_product(const KernelArgs& args) {
  const auto& state = *static_cast<const State*>(args.state);
  with_fill<S>(args, inputs_of(args.attrs),
               [&](const PanelFill& fill, void* scratch) { state.whole->run(fill, scratch); });
}

template <class S>
void matmul_block_product(const KernelArgs& args) {
  const auto& state = *static_cast<const State*>(args.state);
  with_fill<S>(args, inputs_of_sum(args.attrs), [&](const PanelFill& fill, void* scratch) {
    state.product->run({args.in[0].data, args.in[1].data}, fill, args.out[0].data, scratch);
  });
}

MORA_CPU_ACTIVATION_KERNEL(block_product)
MORA_CPU_ACTIVATION_KERNEL(matmul_block_product)

}  // namespace mora::cpu
