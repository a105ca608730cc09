// Every step keeps the singular values: x = Q core with orthonormal columns of Q, permutations, and
// the decomposition of blocks that share neither rows nor columns.
#include "mora/adapters/low_rank.hpp"

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

namespace mora {

namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using RowMatrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

Eigen::Map<RowMatrix> map_of(const Tensor& t) {
  return {t.as<double>().data(), t.shape()[0], t.shape()[1]};
}

// x = Q core. Q merges equal rows, and makes a tall rest square where that is asked for.
class Reduced {
 public:
  explicit Reduced(const RowMatrix& x) : place_(static_cast<size_t>(x.rows())) {
    std::vector<Index> order(place_.size());
    std::iota(order.begin(), order.end(), 0);
    const auto row = [&](Index i) { return std::span(x.data() + i * x.cols(), size_t(x.cols())); };
    std::ranges::sort(order, [&](Index i, Index j) {
      return std::ranges::lexicographical_compare(row(i), row(j));
    });
    std::vector<Index> first;
    for (size_t n = 0; n < order.size(); ++n) {
      if (n == 0 || !std::ranges::equal(row(order[n]), row(order[n - 1]))) {
        first.push_back(order[n]);
        roots_.push_back(0);
      }
      place_[static_cast<size_t>(order[n])] = static_cast<Index>(first.size()) - 1;
      roots_.back() += 1;
    }
    for (double& root : roots_) root = std::sqrt(root);
    core.resize(static_cast<Index>(first.size()), x.cols());
    for (size_t g = 0; g < first.size(); ++g)
      core.row(static_cast<Index>(g)) = roots_[g] * x.row(first[g]);
  }

  void make_square() {
    if (core.rows() <= core.cols()) return;
    qr_.emplace(core);
    core = qr_->matrixQR().topRows(core.cols()).template triangularView<Eigen::Upper>();
  }

  // Q inside.
  RowMatrix expanded(const MatrixXd& inside) const {
    MatrixXd merged = inside;
    if (qr_) {
      merged = MatrixXd::Zero(qr_->rows(), inside.cols());
      merged.topRows(inside.rows()) = inside;
      merged.applyOnTheLeft(qr_->householderQ());
    }
    RowMatrix rows(static_cast<Index>(place_.size()), inside.cols());
    for (size_t i = 0; i < place_.size(); ++i) {
      rows.row(static_cast<Index>(i)) =
          merged.row(place_[i]) / roots_[static_cast<size_t>(place_[i])];
    }
    return rows;
  }

  MatrixXd core;

 private:
  std::vector<Index> place_;   // of each row of x among the distinct ones
  std::vector<double> roots_;  // of how often each occurs
  std::optional<Eigen::HouseholderQR<MatrixXd>> qr_;
};

enum class Vectors : uint8_t { no, yes };

struct Svd {
  Eigen::VectorXd values;  // largest first
  MatrixXd u, v;           // empty without vectors
};

Svd svd_by_gram(const MatrixXd& m, Vectors vectors) {  // tall m
  MatrixXd gram = MatrixXd::Zero(m.cols(), m.cols());
  gram.selfadjointView<Eigen::Lower>().rankUpdate(m.transpose());
  const bool with = vectors == Vectors::yes;
  const Eigen::SelfAdjointEigenSolver<MatrixXd> solver(
      gram, with ? Eigen::ComputeEigenvectors : Eigen::EigenvaluesOnly);
  ensure(solver.info() == Eigen::Success, "eigenvalues of a Gram matrix do not converge");
  Svd svd;
  svd.values = solver.eigenvalues().reverse().cwiseMax(0).cwiseSqrt();
  if (!with) return svd;
  svd.v = solver.eigenvectors().rowwise().reverse();
  svd.u = m * svd.v;
  // A value below this is rounding, and so would be its direction.
  const double least = 1e-8 * svd.values(0);
  for (Index i = 0; i < svd.u.cols(); ++i) {
    if (svd.values(i) > least) {
      svd.u.col(i) /= svd.values(i);
    } else {
      svd.u.col(i).setZero();
    }
  }
  return svd;
}

Svd svd_of(const MatrixXd& m, Vectors vectors) {
  if (m.rows() < m.cols()) {
    Svd svd = svd_of(m.transpose(), vectors);
    std::swap(svd.u, svd.v);
    return svd;
  }
  if (m.cols() > kGramSide) return svd_by_gram(m, vectors);
  const bool with = vectors == Vectors::yes;
  const Eigen::BDCSVD<MatrixXd> solver(m, with ? Eigen::ComputeThinU | Eigen::ComputeThinV : 0);
  ensure(solver.info() == Eigen::Success, "a singular value decomposition does not converge");
  Svd svd;
  svd.values = solver.singularValues();
  if (with) {
    svd.u = solver.matrixU();
    svd.v = solver.matrixV();
  }
  return svd;
}

struct Block {
  std::vector<Index> rows, columns;
};

// The finest blocks: rows and columns that numbers other than 0 connect.
std::vector<Block> blocks_of(const MatrixXd& m) {
  std::vector<Index> parent(static_cast<size_t>(m.rows() + m.cols()));
  std::iota(parent.begin(), parent.end(), 0);
  const auto root = [&](Index i) {
    while (parent[static_cast<size_t>(i)] != i) {
      Index& up = parent[static_cast<size_t>(i)];
      up = parent[static_cast<size_t>(up)];
      i = up;
    }
    return i;
  };
  for (Index j = 0; j < m.cols(); ++j) {
    for (Index i = 0; i < m.rows(); ++i) {
      if (m(i, j) == 0) continue;
      const Index a = root(i), b = root(m.rows() + j);
      parent[static_cast<size_t>(std::max(a, b))] = std::min(a, b);
    }
  }
  std::vector<Block> blocks(parent.size());  // each at its smallest member
  for (Index i = 0; i < m.rows(); ++i) blocks[static_cast<size_t>(root(i))].rows.push_back(i);
  for (Index j = 0; j < m.cols(); ++j)
    blocks[static_cast<size_t>(root(m.rows() + j))].columns.push_back(j);
  std::erase_if(blocks, [](const Block& b) { return b.rows.empty() || b.columns.empty(); });
  return blocks;
}

std::vector<double> values_of(const MatrixXd& core, int64_t count) {
  std::vector<double> values;
  for (const Block& block : blocks_of(core)) {
    const Svd svd = svd_of(core(block.rows, block.columns), Vectors::no);
    values.insert(values.end(), svd.values.begin(), svd.values.end());
  }
  std::ranges::sort(values, std::greater());
  values.resize(static_cast<size_t>(count), 0.0);
  return values;
}

struct Factors {
  MatrixXd u, v;  // core ~ u v^T
  double norm = 0, error = 0;
};

Factors truncated_core(const MatrixXd& core, int64_t rank) {
  const std::vector<Block> blocks = blocks_of(core);
  struct Value {
    double value;
    size_t block;
    Index index;
  };
  std::vector<Svd> svds;
  std::vector<Value> values;
  for (size_t b = 0; b < blocks.size(); ++b) {
    svds.push_back(svd_of(core(blocks[b].rows, blocks[b].columns), Vectors::yes));
    for (Index i = 0; i < svds[b].values.size(); ++i) values.push_back({svds[b].values(i), b, i});
  }
  std::ranges::stable_sort(values, std::greater(), &Value::value);
  Factors f{MatrixXd::Zero(core.rows(), rank), MatrixXd::Zero(core.cols(), rank)};
  double all = 0, left_out = 0;
  for (size_t n = values.size(); n-- > 0;) {  // smallest first: small ones count, too
    const auto [value, b, i] = values[n];
    all += value * value;
    if (n >= static_cast<size_t>(rank)) {
      left_out += value * value;
      continue;
    }
    const auto column = static_cast<Index>(n);
    f.u(blocks[b].rows, column) = std::sqrt(value) * svds[b].u.col(i);
    f.v(blocks[b].columns, column) = std::sqrt(value) * svds[b].v.col(i);
  }
  f.norm = std::sqrt(all);
  f.error = std::sqrt(left_out);
  return f;
}

Truncated truncated(const Reduced& left, const Reduced& right, const MatrixXd& core, int64_t rank) {
  const Factors f = truncated_core(core, rank);
  const RowMatrix b = left.expanded(f.u), a = right.expanded(f.v).transpose();
  Truncated result{.factors = {OwnedTensor({DType::f64, {b.rows(), b.cols()}}),
                               OwnedTensor({DType::f64, {a.rows(), a.cols()}})},
                   .norm = f.norm,
                   .error = f.error};
  map_of(result.factors.b.view()) = b;
  map_of(result.factors.a.view()) = a;
  return result;
}

// b a = left.Q core right.Q^T.
struct ReducedProduct {
  explicit ReducedProduct(const LowRank& update)
      : left(map_of(update.b.view())), right(map_of(update.a.view()).transpose()) {
    left.make_square();
    right.make_square();
    core = left.core * right.core.transpose();
  }

  Reduced left, right;
  MatrixXd core;
};

struct ReducedMatrix {
  explicit ReducedMatrix(const Tensor& matrix)
      : left(map_of(matrix)), right(left.core.transpose()) {
    core = right.core.transpose();
  }

  Reduced left, right;
  MatrixXd core;
};

}  // namespace

LowRank low_rank_of(const Linear& linear) {
  const Factored* factored = linear.adapter() == nullptr ? nullptr : linear.adapter()->factored();
  ensure(factored != nullptr, linear.path(), " has no update in factors");
  LowRank update{OwnedTensor({DType::f64, {linear.out(), factored->inner()}}),
                 OwnedTensor({DType::f64, {factored->inner(), linear.in()}})};
  matrix_of([&](Context& context, Var x) { return factored->down(context, x); }, update.a.view());
  matrix_of([&](Context& context, Var z) { return factored->up(context, z); }, update.b.view());
  return update;
}

namespace {

template <class T>
bool all_finite(const Tensor& tensor) {
  return std::ranges::all_of(tensor.as<T>(),
                             [](T v) { return std::isfinite(static_cast<float>(v)); });
}

}  // namespace

bool is_finite(const Tensor& tensor) {
  switch (tensor.dtype()) {
    case DType::f32:
      return all_finite<float>(tensor);
    case DType::bf16:
      return all_finite<bf16>(tensor);
    case DType::f16:
      return all_finite<f16>(tensor);
    default:
      return std::ranges::all_of(tensor.as<double>(), [](double v) { return std::isfinite(v); });
  }
}

std::vector<double> singular_values(const LowRank& update) {
  const Shape &b = update.b.view().shape(), &a = update.a.view().shape();
  return values_of(ReducedProduct(update).core, std::min({b[0], a[0], a[1]}));
}

std::vector<double> singular_values(const Tensor& matrix) {
  return values_of(ReducedMatrix(matrix).core, std::min(matrix.shape()[0], matrix.shape()[1]));
}

Truncated truncate(const LowRank& update, int64_t rank) {
  const ReducedProduct p(update);
  return truncated(p.left, p.right, p.core, rank);
}

Truncated truncate(const Tensor& matrix, int64_t rank) {
  const ReducedMatrix m(matrix);
  return truncated(m.left, m.right, m.core, rank);
}

}  // namespace mora
