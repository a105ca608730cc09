// Singular values and truncation against matrices whose singular values are known by construction,
// and structure against the same matrix with its structure destroyed.
#include "mora/adapters/low_rank.hpp"

#include <algorithm>

#include "adapter_folders.hpp"
#include "worse.hpp"

TEST_SUITE_BEGIN("low rank");

namespace mora::testing {
namespace {

OwnedTensor matrix(int64_t rows, int64_t columns) {
  return OwnedTensor({DType::f64, {rows, columns}});
}

Numbers numbers_of(const Tensor& t) {
  return {t.as<double>().begin(), t.as<double>().end()};
}

// Multiplies by the reflection at a random vector from the left: keeps singular values, and leaves
// no row like another.
void reflect_rows(const Tensor& m, const std::string& seed) {
  const int64_t rows = m.shape()[0], columns = m.shape()[1];
  const auto at = [&](int64_t i, int64_t j) -> double& {
    return m.as<double>()[static_cast<size_t>(i * columns + j)];
  };
  OwnedTensor v({DType::f64, {rows}});
  fill_random(v.view(), seed, 1);
  const auto direction = v.as<double>();
  const double norm = frobenius(numbers_of(v.view()));
  for (int64_t j = 0; j < columns; ++j) {
    double dot = 0;
    for (int64_t i = 0; i < rows; ++i) dot += direction[static_cast<size_t>(i)] * at(i, j);
    for (int64_t i = 0; i < rows; ++i)
      at(i, j) -= 2 * dot / norm / norm * direction[static_cast<size_t>(i)];
  }
}

OwnedTensor transposed(const Tensor& m) {
  OwnedTensor result = matrix(m.shape()[1], m.shape()[0]);
  const int64_t rows = m.shape()[0], columns = m.shape()[1];
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      result.as<double>()[static_cast<size_t>(j * rows + i)] =
          m.as<double>()[static_cast<size_t>(i * columns + j)];
    }
  }
  return result;
}

// The matrix between two orthogonal ones: no zeros, no equal rows, the same singular values.
OwnedTensor mixed(const Tensor& m) {
  reflect_rows(m, "left");
  const OwnedTensor turned = transposed(m);
  reflect_rows(turned.view(), "right");
  return transposed(turned.view());
}

OwnedTensor with_values(int64_t rows, int64_t columns, const Numbers& values) {
  const OwnedTensor diagonal = matrix(rows, columns);
  for (size_t i = 0; i < values.size(); ++i)
    diagonal.as<double>()[i * static_cast<size_t>(columns) + i] = values[i];
  return mixed(diagonal.view());
}

void check_close(const Numbers& got, const Numbers& expected, double tolerance) {
  REQUIRE(got.size() == expected.size());
  const double scale = std::max(1e-300, expected.empty() ? 0 : expected[0]);
  double worst = 0;
  for (size_t i = 0; i < got.size(); ++i)
    worst = worse(worst, std::fabs(got[i] - expected[i]) / scale);
  CHECK(worst < tolerance);
}

Numbers falling(size_t count) {
  Numbers values;
  for (size_t i = 0; i < count; ++i) values.push_back(3.0 / (1.0 + 0.25 * static_cast<double>(i)));
  return values;
}

OwnedTensor update_of(const LowRank& update) {
  const Shape &b = update.b.view().shape(), &a = update.a.view().shape();
  OwnedTensor result = matrix(b[0], a[1]);
  std::ranges::copy(
      product(numbers_of(update.b.view()), numbers_of(update.a.view()), b[0], b[1], a[1]),
      result.as<double>().begin());
  return result;
}

TEST_CASE("singular values of matrices that have known ones") {
  const int64_t shapes[][2] = {{1, 1}, {1, 7}, {7, 1}, {13, 5}, {5, 13}, {40, 40}};
  for (const auto& s : shapes) {
    INFO(s[0], " x ", s[1]);
    const Numbers expected = falling(static_cast<size_t>(std::min(s[0], s[1])));
    check_close(singular_values(with_values(s[0], s[1], expected).view()), expected, 1e-13);
  }
  Numbers deficient = falling(6);
  deficient[4] = deficient[5] = 0;
  check_close(singular_values(with_values(9, 6, deficient).view()), deficient, 1e-13);
  check_close(singular_values(matrix(4, 3).view()), {0, 0, 0}, 1e-300);
  // Repeated values, and values far apart.
  check_close(singular_values(with_values(6, 8, {2, 2, 2, 1, 1, 1}).view()), {2, 2, 2, 1, 1, 1},
              1e-13);
  check_close(singular_values(with_values(5, 5, {1e6, 1, 1e-3, 1e-6, 0}).view()),
              {1e6, 1, 1e-3, 1e-6, 0}, 1e-13);
}

TEST_CASE("large matrices go by way of the Gram matrix, as accurate as promised") {
  const size_t side = static_cast<size_t>(kGramSide) + 9;
  Numbers expected = falling(side);
  std::fill(expected.end() - 20, expected.end(), 0.0);
  const auto n = static_cast<int64_t>(side);
  check_close(singular_values(with_values(n, n + 30, expected).view()), expected, 1e-7);
  const Truncated cut = truncate(with_values(n + 30, n, expected).view(), 3);
  CHECK(cut.norm == doctest::Approx(frobenius(expected)).epsilon(1e-9));
  CHECK(cut.error ==
        doctest::Approx(frobenius(Numbers(expected.begin() + 3, expected.end()))).epsilon(1e-9));
}

TEST_CASE("structure changes no singular value") {
  // Blocks that share nothing, equal rows, equal columns, rows of zeros, all at once.
  const OwnedTensor m = matrix(12, 10);
  const auto at = [&](int64_t i, int64_t j) -> double& {
    return m.as<double>()[static_cast<size_t>(i * 10 + j)];
  };
  for (int64_t i = 0; i < 3; ++i) {
    for (int64_t j = 0; j < 2; ++j) {
      const double value = 1.0 + static_cast<double>(i * i) - 2.0 * static_cast<double>(j);
      at(i, j) = at(i + 5, j) = at(i, j + 7) = at(i + 5, j + 7) = value;
      at(i + 8, j + 4) = 0.5 * value;
    }
  }
  const Numbers structured = singular_values(m.view());
  check_close(structured, singular_values(mixed(m.view()).view()), 1e-13);
  CHECK(std::ranges::count_if(structured, [](double v) { return v > 1e-9; }) == 4);
}

TEST_CASE("factors have the values of their product") {
  for (const int64_t rank : {1, 4, 9, 20}) {  // also more than the matrix has
    INFO(rank);
    LowRank update{matrix(11, rank), matrix(rank, 9)};
    fill_random(update.b.view(), "b", 1);
    fill_random(update.a.view(), "a", 1);
    Numbers expected = singular_values(mixed(update_of(update).view()).view());
    expected.resize(static_cast<size_t>(std::min<int64_t>(rank, 9)));
    check_close(singular_values(update), expected, 1e-13);
  }
}

TEST_CASE("every method's update, by its structure and without it") {
  for (const AdapterKind& kind : adapter_kinds()) {
    for (const LayerShape& shape : {LayerShape{"q_proj", 24, 24},
                                    {"q_proj", 13, 31},
                                    {"q_proj", 31, 13},
                                    {"q_proj", 40, 6},
                                    {"q_proj", 5, 3}}) {
      INFO(kind.name, " ", shape.out, " x ", shape.in);
      AdapterConfig config = kind.config;
      config.target_modules = {"q_proj"};
      const AdapterAndBase folders(config, {shape});
      const AdapterFolder folder(folders.adapter(), "");
      const Linear& linear = folder.layers()[0];
      const OwnedTensor delta = matrix(shape.out, shape.in);
      folder.update_of(linear, delta.view());
      const Numbers structured = singular_values(delta.view());
      if (linear.adapter()->factored() != nullptr) {
        const LowRank update = low_rank_of(linear);
        CHECK(frobenius(minus(numbers_of(update_of(update).view()), numbers_of(delta.view()))) <
              1e-14);
        Numbers values = singular_values(update);
        values.resize(structured.size(), 0.0);
        check_close(values, structured, 1e-13);
      } else {
        CHECK(full_rank(kind.config));
      }
      check_close(structured, singular_values(mixed(delta.view()).view()), 1e-13);
    }
  }
}

TEST_CASE("truncation leaves out exactly the smaller singular values") {
  const Numbers values = falling(8);
  const OwnedTensor whole = with_values(12, 8, values);
  LowRank factors{matrix(12, 8), matrix(8, 8)};
  std::ranges::copy(whole.as<double>(), factors.b.as<double>().begin());
  for (size_t i = 0; i < 8; ++i) factors.a.as<double>()[9 * i] = 1;
  for (const int64_t rank : {1, 3, 7, 8, 11}) {
    INFO(rank);
    const auto kept = static_cast<size_t>(std::min<int64_t>(rank, 8));
    const double expected =
        frobenius(Numbers(values.begin() + static_cast<long>(kept), values.end()));
    for (const Truncated& cut : {truncate(whole.view(), rank), truncate(factors, rank)}) {
      CHECK(cut.factors.b.view().shape() == Shape{12, rank});
      CHECK(cut.factors.a.view().shape() == Shape{rank, 8});
      CHECK(cut.norm == doctest::Approx(frobenius(values)).epsilon(1e-13));
      CHECK(std::fabs(cut.error - expected) < 1e-13);
      const double difference =
          frobenius(minus(numbers_of(update_of(cut.factors).view()), numbers_of(whole.view())));
      CHECK(std::fabs(difference - expected) < 1e-12);
    }
  }
}

TEST_CASE("truncation of updates with structure is as good as without it") {
  for (const AdapterKind& kind : adapter_kinds()) {
    INFO(kind.name);
    AdapterConfig config = kind.config;
    config.target_modules = {"q_proj"};
    const AdapterAndBase folders(config, {{"q_proj", 31, 26}});
    const AdapterFolder folder(folders.adapter(), "");
    const OwnedTensor delta = matrix(31, 26);
    folder.update_of(folder.layers()[0], delta.view());
    const Numbers values = singular_values(delta.view());
    const Truncated cut = folder.layers()[0].adapter()->factored() != nullptr
                              ? truncate(low_rank_of(folder.layers()[0]), 2)
                              : truncate(delta.view(), 2);
    const double expected = frobenius(Numbers(values.begin() + 2, values.end()));
    const double difference =
        frobenius(minus(numbers_of(update_of(cut.factors).view()), numbers_of(delta.view())));
    CHECK(std::fabs(difference - expected) < 1e-12);
    CHECK(std::fabs(cut.error - expected) < 1e-12);
  }
}

}  // namespace

TEST_SUITE_END();

}  // namespace mora::testing
