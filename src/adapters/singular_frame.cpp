// Of V only r rows are wanted, so no n x n matrix of vectors is ever rotated: the Gram matrix is
// made tridiagonal, G = Q T Q^T, T = S D S^T by implicit QR steps (Golub and Van Loan, Matrix
// Computations, 8.3), and only r rows of Q are carried through the rotations of S.
#include "adapters/singular_frame.hpp"

#include <Eigen/Dense>
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "mora/core/error.hpp"

namespace mora::adapters {

namespace {

using Eigen::Index;
using Eigen::MatrixXd;
using Eigen::VectorXd;
using RowMatrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// One QR step with Wilkinson's shift on the unreduced block [first, last] of T; its rotations go
// into the columns of `rows`.
void qr_step(VectorXd& d, VectorXd& e, Index first, Index last, MatrixXd& rows) {
  const double half = (d[last - 1] - d[last]) / 2, corner = e[last - 1];
  const double shift =
      d[last] - corner * (corner / (half + std::copysign(std::hypot(half, corner), half)));
  double kept = d[first] - shift, bulge = e[first];  // what the next rotation turns to (r, 0)
  for (Index k = first; k < last; ++k) {
    Eigen::JacobiRotation<double> rotation;
    double r = 0;
    rotation.makeGivens(kept, bulge, &r);
    const double c = rotation.c(), s = rotation.s();
    const double above = d[k], below = d[k + 1], off = e[k];
    d[k] = c * c * above - 2 * c * s * off + s * s * below;
    d[k + 1] = s * s * above + 2 * c * s * off + c * c * below;
    e[k] = c * s * (above - below) + (c * c - s * s) * off;
    if (k > first) e[k - 1] = r;
    rows.applyOnTheRight(k, k + 1, rotation);
    if (k + 1 == last) break;
    kept = e[k];
    bulge = -s * e[k + 1];
    e[k + 1] *= c;
  }
}

// d, e: the diagonals of T; afterwards d has its eigenvalues, `rows` the rows that it had times
// the eigenvectors.
void diagonalise(VectorXd& d, VectorXd& e, MatrixXd& rows) {
  constexpr Index kMostSteps = 30;  // on average, of each value; two or three are usual
  constexpr double kEpsilon = std::numeric_limits<double>::epsilon();
  const auto negligible = [&](Index i) {
    return std::fabs(e[i]) <= kEpsilon * (std::fabs(d[i]) + std::fabs(d[i + 1]));
  };
  Index last = d.size() - 1;
  for (Index step = 0; last > 0; ++step) {
    ensure(step < kMostSteps * d.size(), "eigenvalues of a tridiagonal matrix do not converge");
    for (Index i = 0; i < last; ++i) {
      if (negligible(i)) e[i] = 0;
    }
    while (last > 0 && e[last - 1] == 0) --last;
    if (last == 0) break;
    Index first = last - 1;
    while (first > 0 && e[first - 1] != 0) --first;
    qr_step(d, e, first, last, rows);
  }
}

// r rows of the eigenvectors of a symmetric matrix (its lower half), columns by falling eigenvalue,
// row 0 not negative.
MatrixXd rows_of_eigenvectors(const MatrixXd& gram, Index r) {
  const Index n = gram.rows();
  MatrixXd rows = MatrixXd::Identity(r, n);
  VectorXd d = gram.diagonal(), e(0);
  if (n > 1) {
    const Eigen::Tridiagonalization<MatrixXd> tridiagonal(gram);
    d = tridiagonal.diagonal();
    e = tridiagonal.subDiagonal();
    rows.applyOnTheRight(tridiagonal.matrixQ());
  }
  diagonalise(d, e, rows);
  std::vector<Index> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, [&](Index a, Index b) { return d[a] > d[b]; });
  MatrixXd sorted(r, n);
  for (Index j = 0; j < n; ++j) {
    const auto column = rows.col(order[static_cast<size_t>(j)]);
    sorted.col(j) = column * (column(0) < 0 ? -1.0 : 1.0);
  }
  return sorted;
}

// G += rows^T rows
void add_rows(const RowMatrix& rows, MatrixXd& gram) {
  gram.selfadjointView<Eigen::Lower>().rankUpdate(rows.transpose());
}

}  // namespace

void singular_frame(const Tensor& matrix, const Tensor& frame) {
  const int64_t m = matrix.shape()[0], n = matrix.shape()[1], r = frame.shape()[0];
  ensure(m >= n && r <= n && frame.shape()[1] == n, "singular_frame: ", matrix.shape(), " to ",
         frame.shape());
  MatrixXd gram = MatrixXd::Zero(n, n);
  add_rows(Eigen::Map<const RowMatrix>(matrix.as<double>().data(), m, n), gram);
  Eigen::Map<RowMatrix>(frame.as<double>().data(), r, n) = rows_of_eigenvectors(gram, r);
}

void random_singular_frame(const Random& random, const Tensor& frame) {
  constexpr int64_t kLeastRows = 4096, kPanel = 128;  // a multiple of the panel
  const int64_t r = frame.shape()[0], n = frame.shape()[1], m = std::max(n, kLeastRows);
  MatrixXd gram = MatrixXd::Zero(n, n);
  RowMatrix panel;
  for (int64_t begin = 0; begin < m; begin += kPanel) {
    panel.resize(std::min(kPanel, m - begin), n);
    for (Index i = 0; i < panel.size(); ++i)
      panel.data()[i] = random.uniform(static_cast<uint64_t>(begin * n + i));
    add_rows(panel, gram);
  }
  MatrixXd rows = rows_of_eigenvectors(gram, r);
  for (int64_t j = 0; j < n; ++j) {
    if (random.uniform(static_cast<uint64_t>(m * n + j)) < 0.5) rows.col(j) = -rows.col(j);
  }
  const OwnedTensor wide({DType::f64, frame.shape()});
  Eigen::Map<RowMatrix>(wide.as<double>().data(), r, n) = rows;
  convert(wide.view(), frame);
}

}  // namespace mora::adapters
