// MoRA (Jiang et al. 2024, arXiv 2405.12130): delta(x) = s * decompress(M compress(dropout(x))), M:
// [R, R], starts at 0; s = 1 in the paper. R = r_hat gives M as many numbers as LoRA of rank r has.
//
//   sharing     Eq. 6: features of a group are summed, outputs of a group get the same value.
//   Groupings input_output;
//               strided = authors' type 1, contiguous = 2, contiguous_strided = 3,
//               strided_contiguous = 4; random: strided, without the padding below, after a
//               random order of the features of each side, some of them negated.
//   rotation    Eq. 9 (type 6): x is cut to blocks of R, block b turned by RoPE angles of position
//   b; each through M. decoupling  Eq. 8: the same without the rotation. truncation  Eq. 4: the
//   first R features to the first R outputs.
//
// A strided input is extended circularly to a multiple of R (the authors' padding), so feature p
// mod in stands at every position p. Where the authors' code fails this map just continues: R > in
// repeats the input as often as needed, and R >= in with rotation is a single unrotated block.
// With fewer outputs than inputs, blocks of inputs beyond those of the outputs are ignored, as by
// the authors (cover "used"), or go round: block b adds to output block b mod ceil(out/R) (cover
// "all").
//
// Rotation in bf16 is one operation where each block of outputs has one of inputs; all else is
// compressed, multiplied and decompressed by three, which in f32 is faster. Layers that read one x
// and compress it alike (gate_proj and up_proj, k_proj and v_proj) share what M multiplies. It is
// one pass over x away: where it is not much smaller than x, the gradient makes it again.
#include <algorithm>
#include <cmath>

#include "adapters/methods.hpp"
#include "mora/core/random.hpp"

namespace mora {

int64_t mora_rank(int64_t in, int64_t out, int64_t r, std::string_view mora_operator) {
  const double exact = std::sqrt(static_cast<double>((in + out) * r));
  const int64_t rank = std::lround(exact);
  return mora_operator == "rotation" ? std::max<int64_t>(rank / 2 * 2, 2) : rank;
}

namespace adapters {

namespace {

class Mora : public Adapter {
 public:
  Mora(const AdapterConfig& config, const Scope& scope, int64_t in, int64_t out)
      : in_(in),
        out_(out),
        rank_(mora_rank(in, out, config.r, config.operation)),
        path_(scope.path()),
        dropout_(config.lora_dropout),
        scale_(config.scale),
        m_(scope.parameter("lora_A.weight", {rank_, rank_}, {Init::Kind::zeros},
                           Training::trained)) {}

  Var delta(Context& context, const AdaptedLayer& layer) const override {
    const Var x = dropped(context, layer.x);
    const Var compressed = context.once(x, compression(), [&] {
      const Var made = compress(context, x);
      return 5 * made.shape().last() < 2 * in_ ? made : forget(made);
    });
    return decompress(context, compressed);
  }

 protected:
  // What M multiplies; alike for adapters of one compression().
  virtual Var compress(Context& context, Var x) const = 0;
  virtual std::string compression() const = 0;
  virtual Var decompress(Context& context, Var compressed) const = 0;  // M included

  Var dropped(Context& context, Var x) const { return input_dropout(context, x, dropout_, path_); }
  Var matrix(Context& context) const { return context.parameter(m_); }
  double scale() const { return scale_; }
  Var multiply(Context& context, Var compressed) const {
    return matmul(compressed, matrix(context), {.tb = Transpose::yes, .alpha = scale_});
  }

  const std::string& path() const { return path_; }

  int64_t in_, out_, rank_;

 private:
  std::string path_;
  double dropout_, scale_;
  const Parameter& m_;
};

// Of rank R at most.
class Narrow : public Mora, public Factored {
 public:
  using Mora::Mora;
  const Factored* factored() const final { return this; }
  int64_t inner() const final { return rank_; }
  Var down(Context& context, Var x) const final { return compress(context, x); }
  Var up(Context& context, Var inside) const final { return decompress(context, inside); }

 private:
  Var decompress(Context& context, Var compressed) const final {
    return expand(context, multiply(context, compressed));
  }
  virtual Var expand(Context& context, Var z) const = 0;
};

// A random order of features with random signs, as permute() takes it.
OwnedTensor random_order(uint64_t seed, const std::string& name, int64_t features) {
  const Random places(seed, Purpose::grouping, stream_of(name)),
      signs(seed, Purpose::grouping, stream_of(name + ".signs"));
  OwnedTensor order({DType::i32, {features}});
  const std::vector<int64_t> permuted = permutation(places, features);
  for (size_t j = 0; j < permuted.size(); ++j) {
    const auto place = static_cast<int32_t>(permuted[j]);
    order.as<int32_t>()[j] = signs.bits(j) % 2 == 0 ? place : -1 - place;
  }
  return order;
}

class Sharing final : public Narrow {
 public:
  Sharing(const AdapterConfig& config, const Scope& scope, int64_t in, int64_t out)
      : Narrow(config, scope, in, out) {
    group(config);
  }

  void regroup(const AdapterConfig& config) override { group(config); }

 private:
  void group(const AdapterConfig& config) {
    const std::string& name = config.grouping;
    const bool both = name == "contiguous";
    input_ = both || name == "contiguous_strided" ? Grouping::contiguous : Grouping::strided;
    output_ = both || name == "strided_contiguous" ? Grouping::contiguous : Grouping::strided;
    random_ = name == "random";
    if (!random_) return;
    const auto seed = static_cast<uint64_t>(config.grouping_seed);
    in_order_ = random_order(seed, path() + ".in", in_);
    out_order_ = random_order(seed, path() + ".out", out_);
  }

  Var compress(Context& context, Var x) const override {
    if (random_) x = forget(permute(x, context.constant(in_order_.view(), "input order"), {}));
    const bool padded = input_ == Grouping::strided && !random_;
    return fold(
        x,
        {.size = rank_, .grouping = input_, .padding = padded ? Padding::circular : Padding::none});
  }
  std::string compression() const override {
    return str(random_ ? path() : "", "sharing ", static_cast<int>(input_), " ", rank_);
  }

  Var expand(Context& context, Var z) const override {
    const Var y = unfold(z, {.size = out_, .grouping = output_, .padding = Padding::none});
    if (!random_) return y;
    return permute(y, context.constant(out_order_.view(), "output order"), {Direction::backward});
  }

  Grouping input_ = Grouping::strided, output_ = Grouping::strided;
  bool random_ = false;
  OwnedTensor in_order_, out_order_;  // of random groups
};

// What rotation and decoupling share: the same M for every block, then the blocks in a row, cut or
// tiled to `out`.
class Blocks : public Mora {
 public:
  Blocks(const AdapterConfig& config, const Scope& scope, int64_t in, int64_t out)
      : Mora(config, scope, in, out) {
    const auto blocks_of = [this](int64_t features) { return (features + rank_ - 1) / rank_; };
    results_ = std::min(blocks_of(in), blocks_of(out));
    blocks_ = config.operation == "rotation" && config.cover == "all" ? blocks_of(in) : results_;
  }

 private:
  virtual Var blocks(Context& context, Var x) const = 0;  // [T, in] -> [T, blocks_ * R]
  virtual std::string_view name() const = 0;

  // Blocks that add to one result are summed before M, which they share.
  Var compress(Context& context, Var x) const final {
    const Var a = blocks(context, x);
    if (blocks_ == results_) return a;
    return fold(
        forget(a),
        {.size = results_ * rank_, .grouping = Grouping::strided, .padding = Padding::none});
  }
  std::string compression() const final {
    return str(name(), " ", blocks_, " ", results_, " ", rank_);
  }

  Var decompress(Context& context, Var compressed) const final {
    const Shape each{compressed.shape()[0] * results_, rank_};
    const Var z = reshape(multiply(context, reshape(compressed, each)), compressed.shape());
    return unfold(z, {.size = out_, .grouping = Grouping::strided, .padding = Padding::none});
  }

 protected:
  int64_t results_, blocks_;  // of what is multiplied by M, and of the input
};

class Decoupling final : public Blocks {
  using Blocks::Blocks;

  std::string_view name() const override { return "decoupling"; }
  Var blocks(Context&, Var x) const override {
    return unfold(
        x, {.size = blocks_ * rank_, .grouping = Grouping::strided, .padding = Padding::none});
  }
};

class Rotation final : public Blocks {
 public:
  Rotation(const AdapterConfig& config, const Scope& scope, int64_t in, int64_t out)
      : Blocks(config, scope, in, out), table_({scope.store().working(), {blocks_, rank_}}) {
    if (table_.view().dtype() == DType::f64) {
      fill_table<double>();
    } else {
      fill_table<float>();
    }
  }

  Var delta(Context& context, const AdaptedLayer& layer) const override {
    const bool narrow = layer.x.type().dtype == DType::bf16;
    if (!narrow || blocks_ != results_) return Blocks::delta(context, layer);
    return block_product({dropped(context, layer.x), matrix(context), table(context)},
                         {.size = out_, .alpha = scale()});
  }

 private:
  // Row b: cos(b theta_k), sin(b theta_k) with theta_k = 10000^(-2k/R), k < R/2.
  template <class T>
  void fill_table() {
    const auto table = table_.as<T>();
    const int64_t half = rank_ / 2;
    for (int64_t b = 0; b < blocks_; ++b) {
      for (int64_t k = 0; k < half; ++k) {
        const double angle = double(b) * std::pow(10000.0, -2.0 * double(k) / double(rank_));
        table[static_cast<size_t>(b * rank_ + k)] = static_cast<T>(std::cos(angle));
        table[static_cast<size_t>(b * rank_ + half + k)] = static_cast<T>(std::sin(angle));
      }
    }
  }

  std::string_view name() const override { return "rotation"; }
  Var blocks(Context& context, Var x) const override {
    return rotate_blocks(x, table(context), {});
  }
  Var table(Context& context) const { return context.constant(table_.view(), "rotation"); }

  OwnedTensor table_;
};

class Truncation final : public Narrow {
 public:
  using Narrow::Narrow;

 private:
  Var compress(Context&, Var x) const override { return resize(x, {.size = rank_}); }
  std::string compression() const override { return str("truncation ", rank_); }
  Var expand(Context&, Var z) const override { return resize(z, {.size = out_}); }
};

}  // namespace

std::unique_ptr<Adapter> make_mora(const AdapterConfig& config, const Scope& scope, int64_t in,
                                   int64_t out) {
  const std::string& name = config.operation;
  if (name == "sharing") return std::make_unique<Sharing>(config, scope, in, out);
  if (name == "rotation") return std::make_unique<Rotation>(config, scope, in, out);
  if (name == "decoupling") return std::make_unique<Decoupling>(config, scope, in, out);
  if (name == "truncation") return std::make_unique<Truncation>(config, scope, in, out);
  fail(ErrorKind::usage, "adapter.operator: \"", name,
       "\" is none of sharing, rotation, decoupling, truncation");
}

int64_t mora_parameters(const AdapterConfig& config, int64_t in, int64_t out) {
  const int64_t rank = mora_rank(in, out, config.r, config.operation);
  return rank * rank;
}

}  // namespace adapters

}  // namespace mora
