// What adapters start from: AsyLoRA's drawn A, the norms that DoRA divides by, MoRA's r_hat.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "mora/adapters/low_rank.hpp"
#include "tiny_llama.hpp"

TEST_SUITE_BEGIN("adapter start");

namespace mora::testing {
namespace {

using Numbers = std::vector<double>;

Numbers numbers_of(const Tensor& t) {
  return {t.as<double>().begin(), t.as<double>().end()};
}

TEST_CASE("AsyLoRA's A has orthonormal rows, its own in every layer and from the seed") {
  AdapterConfig config;
  config.init_lora_weights = "asymmetric";
  const auto start = [&](const std::string& path, uint64_t seed, int64_t in, int64_t r) {
    ParameterStore store(DType::f64);
    Linear linear(Scope(store, path), in, 3, {Init::Kind::normal, 1}, Training::frozen);
    config.r = r;
    linear.attach(make_adapter(config, Scope(store, path), in, 3));
    store.allocate();
    initialise_adapters(store, seed, std::array{&linear});
    for (const double b : numbers_of(store.all().back().value)) CHECK(b == 0);
    return numbers_of(store.all()[1].value);
  };
  for (const auto& [in, r] :
       std::initializer_list<std::pair<int64_t, int64_t>>{{1, 1}, {7, 7}, {30, 1}, {173, 8}}) {
    const Numbers a = start("layer", 5, in, r);
    for (int64_t i = 0; i < r; ++i) {
      for (int64_t k = 0; k <= i; ++k) {
        double product = 0;
        for (int64_t j = 0; j < in; ++j)
          product += a[static_cast<size_t>(i * in + j)] * a[static_cast<size_t>(k * in + j)];
        CHECK(std::fabs(product - (i == k ? 1 : 0)) < 1e-12);
      }
    }
  }
  const Numbers a = start("layer", 5, 30, 4);
  CHECK(start("layer", 5, 30, 4) == a);
  CHECK(start("other", 5, 30, 4) != a);
  CHECK(start("layer", 6, 30, 4) != a);
  // The signs are drawn: of 30 numbers of each row, some are negative and some not.
  for (size_t i = 0; i < 4; ++i) {
    const auto negative =
        std::count_if(a.begin() + static_cast<long>(30 * i),
                      a.begin() + static_cast<long>(30 * (i + 1)), [](double x) { return x < 0; });
    CHECK(negative > 3);
    CHECK(negative < 27);
  }
  CHECK_THROWS_AS(start("layer", 5, 3, 4), Error);
}

TEST_CASE("DoRA refuses a layer with a row that has no direction") {
  AdapterConfig config;
  config.use_dora = true;
  ParameterStore store;
  Linear linear(Scope(store, "layer"), 4, 3, {Init::Kind::normal, 1}, Training::frozen);
  linear.attach(make_adapter(config, Scope(store, "layer"), 4, 3));
  store.allocate();
  store.initialise(1);
  std::ranges::fill(linear.weight().value.as<float>().subspan(4, 4), 0.0f);
  CHECK_THROWS_WITH_AS(initialise_adapters(store, 1, std::array{&linear}),
                       doctest::Contains("layer.weight: row 1 is all zeros"), Error);
}

TEST_CASE("r_hat is the authors' for the shapes of known models") {
  struct Row {
    int64_t in, out, r, rank, rotation;
  };
  for (const Row& row :
       {Row{4096, 4096, 8, 256, 256}, Row{4096, 4096, 128, 1024, 1024},
        Row{4096, 4096, 256, 1448, 1448}, Row{4096, 11008, 8, 348, 348},
        Row{11008, 4096, 8, 348, 348}, Row{4096, 11008, 256, 1966, 1966},
        Row{768, 768, 128, 443, 442}, Row{768, 2560, 128, 653, 652}, Row{2048, 2048, 128, 724, 724},
        Row{2048, 5461, 128, 980, 980}, Row{768, 768, 8, 111, 110}, Row{1, 1, 1, 1, 2}}) {
    INFO(row.in << " x " << row.out << " r " << row.r);
    for (const char* name : {"sharing", "decoupling", "truncation"})
      CHECK(mora_rank(row.in, row.out, row.r, name) == row.rank);
    CHECK(mora_rank(row.in, row.out, row.r, "rotation") == row.rotation);
  }
}

}  // namespace
}  // namespace mora::testing

TEST_SUITE_END();
