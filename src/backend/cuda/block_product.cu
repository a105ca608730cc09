// y = alpha P(m) x + c, P(m): M on every turned block of features, or the transpose of that; the
// same with a product in the place of c; and the gradient of M. Made of the kernels of fold, unfold
// and rotate_blocks and of one product, over blocks in scratch memory.
//   x: [T, in]  m: [R, R]  table: [blocks, R]  c, y: [T, size]  a, z: [T, blocks R]
#include <array>

#include "backend/cuda/kernels.hpp"
#include "backend/cuda/matmul.hpp"

namespace mora::cuda {

namespace {

// Where the operands of P stand among the inputs of a call.
struct Inputs {
  size_t x, addend;
  BlockProductAttrs attrs;
};
Inputs inputs_of(const Attrs& attrs) {
  return {.x = 0, .addend = 3, .attrs = attrs.as<BlockProductAttrs>()};
}
Inputs inputs_of_sum(const Attrs& attrs) {
  return {.x = 2, .addend = 5, .attrs = attrs.as<MatmulBlockProductAttrs>().second};
}

struct State {
  int64_t tokens, positions;          // T, blocks R
  size_t blocks_bytes, result_bytes;  // of a (or z), and of y by itself
  std::unique_ptr<Product> square, base;

  size_t scratch_bytes() const {
    const size_t base_bytes = base ? base->scratch_bytes() : 0;
    return 2 * blocks_bytes + result_bytes + std::max(square->scratch_bytes(), base_bytes);
  }
  std::byte* products_room(std::byte* scratch) const {
    return scratch + 2 * blocks_bytes + result_bytes;
  }
};

std::shared_ptr<State> prepare(const Type& x, const Type& table, const BlockProductAttrs& attrs) {
  auto state = std::make_shared<State>();
  const int64_t width = table.shape.last();
  state->tokens = x.shape[0];
  state->positions = table.shape.elements();
  state->blocks_bytes = scratch_room(state->tokens * state->positions, x.dtype);
  state->result_bytes = scratch_room(state->tokens * attrs.size, x.dtype);
  const bool forward = attrs.direction == Direction::forward;
  state->square = prepare_product({.m = state->tokens * table.shape[0],
                                   .k = width,
                                   .n = width,
                                   .tb = forward ? Transpose::yes : Transpose::no,
                                   .alpha = attrs.alpha,
                                   .dtype = x.dtype,
                                   .b_dtype = working_of(x.dtype),
                                   .c_dtype = x.dtype});
  return state;
}

// Blocks of x turned, or of dy folded.
template <class S>
void turn(const Tensor& x, const Tensor& table, const Tensor& a) {
  const std::array in{x, table};
  rotate_blocks<S>({in, {&a, 1}, RotateBlocksAttrs{}, nullptr, nullptr});
}
template <class S>
void fold_to_blocks(const Tensor& dy, const Tensor& a) {
  const FoldAttrs attrs{a.shape().last(), Grouping::strided, Padding::none};
  fold<S>({{&dy, 1}, {&a, 1}, attrs, nullptr, nullptr});
}

// y = z in a row, plus c if it is there, or z turned back
template <class S>
void unfold_blocks(const Tensor& z, const Tensor* c, const Tensor& y) {
  const std::array in{z, c == nullptr ? Tensor{} : *c};
  const FoldAttrs attrs{y.shape().last(), Grouping::strided, Padding::none};
  unfold<S>({std::span(in).first(c == nullptr ? 1 : 2), {&y, 1}, attrs, nullptr, nullptr});
}
template <class S>
void turn_back(const Tensor& z, const Tensor& table, const Tensor& y) {
  const std::array in{z, table};
  const RotateBlocksAttrs attrs{Direction::backward, y.shape().last()};
  rotate_blocks<S>({in, {&y, 1}, attrs, nullptr, nullptr});
}

// y = alpha P(m) x, plus c if it is there, which may be y
template <class S>
void make_blocks(const KernelArgs& args, const Inputs& inputs, const Tensor* c) {
  const auto& state = *static_cast<const State*>(args.state);
  const Tensor *in = &args.in[inputs.x], &table = in[2], &y = args.out[0];
  auto* scratch = static_cast<std::byte*>(args.scratch);
  const Type blocks{in[0].dtype(), {state.tokens, state.positions}};
  const Tensor a{scratch, blocks}, z{scratch + state.blocks_bytes, blocks},
      result{scratch + 2 * state.blocks_bytes, {in[0].dtype(), {state.tokens, inputs.attrs.size}}};
  const bool forward = inputs.attrs.direction == Direction::forward,
             alike = y.dtype() == in[0].dtype();
  forward ? turn<S>(in[0], table, a) : fold_to_blocks<S>(in[0], a);
  state.square->run({a.data, in[1].data, nullptr, z.data}, state.products_room(scratch));
  if (forward && alike) return unfold_blocks<S>(z, c, {y.data, result.type});
  const Tensor& to = c == nullptr ? y : result;
  forward ? unfold_blocks<S>(z, nullptr, to) : turn_back<S>(z, table, to);
  if (c == nullptr) return;
  const std::array sum{Tensor{c->data, y.type}, Tensor{result.data, {in[0].dtype(), y.shape()}}};
  const KernelArgs adding{sum, {&y, 1}, Attrs{}, nullptr, nullptr};
  alike ? add<S>(adding) : add<Working<S>>(adding);
}

// The addend, or null.
const Tensor* addend(const KernelArgs& args, const Inputs& inputs) {
  return inputs.addend < args.in.size() ? &args.in[inputs.addend] : nullptr;
}

}  // namespace

Prepared prepare_block_product(const OpCall& call) {
  auto state = prepare(call.in[0], call.in[2], call.attrs.as<BlockProductAttrs>());
  return {state->scratch_bytes(), state};
}

Prepared prepare_matmul_block_product(const OpCall& call) {
  const auto attrs = call.attrs.as<MatmulBlockProductAttrs>();
  auto state = prepare(call.in[2], call.in[4], attrs.second);
  state->base = prepare_product(shape_of(call, 0, attrs.first));
  return {state->scratch_bytes(), state};
}

// With the products of the gradient's own shape: the square is dM.
Prepared prepare_block_product_grad(const OpCall& call) {
  const auto attrs = call.attrs.as<BlockProductAttrs>();
  auto state = prepare(call.in[0], call.in[2], attrs);
  const int64_t width = call.in[2].shape.last();
  state->square = prepare_product({.m = width,
                                   .k = state->tokens * call.in[2].shape[0],
                                   .n = width,
                                   .ta = Transpose::yes,
                                   .alpha = attrs.alpha,
                                   .dtype = call.in[0].dtype,
                                   .b_dtype = call.in[0].dtype,
                                   .c_dtype = call.out[0].dtype});
  return {state->scratch_bytes(), state};
}

template <class S>
void block_product(const KernelArgs& args) {
  const Inputs inputs = inputs_of(args.attrs);
  make_blocks<S>(args, inputs, addend(args, inputs));
}

template <class S>
void matmul_block_product(const KernelArgs& args) {
  const auto& state = *static_cast<const State*>(args.state);
  const Inputs inputs = inputs_of_sum(args.attrs);
  const Tensor* c = addend(args, inputs);
  state.base->run(
      {args.in[0].data, args.in[1].data, c == nullptr ? nullptr : c->data, args.out[0].data},
      state.products_room(static_cast<std::byte*>(args.scratch)));
  make_blocks<S>(args, inputs, args.out.data());
}

template <class S>
void block_product_grad(const KernelArgs& args) {
  const auto& state = *static_cast<const State*>(args.state);
  auto* scratch = static_cast<std::byte*>(args.scratch);
  const Type blocks{args.in[0].dtype(), {state.tokens, state.positions}};
  const Tensor a{scratch, blocks}, d{scratch + state.blocks_bytes, blocks};
  turn<S>(args.in[0], args.in[2], a);
  fold_to_blocks<S>(args.in[1], d);
  state.square->run({d.data, a.data, nullptr, args.out[0].data}, state.products_room(scratch));
}

MORA_CUDA_ACTIVATION_KERNEL(block_product)
MORA_CUDA_ACTIVATION_KERNEL(matmul_block_product)
MORA_CUDA_ACTIVATION_KERNEL(block_product_grad)

}  // namespace mora::cuda
