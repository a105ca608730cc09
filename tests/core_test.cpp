// Types, shapes, tensors, random numbers, and the vectorised exponential that the kernels build on.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>
#include <vector>

#include "backend/cpu/simd.hpp"
#include "mora/core/half.hpp"
#include "mora/core/parallel.hpp"
#include "mora/core/random.hpp"
#include "mora/core/tensor.hpp"

using namespace mora;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

float through_bf16(float x) {
  return static_cast<float>(bf16(x));
}

}  // namespace

TEST_SUITE("core") {
  TEST_CASE("Philox gives the published vectors") {
    using Block = std::array<uint32_t, 4>;
    const uint32_t ones = 0xffffffffu;
    CHECK(philox({0, 0, 0, 0}, {0, 0}) == Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
    CHECK(philox({ones, ones, ones, ones}, {ones, ones}) ==
          Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
    CHECK(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
          Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
  }

  TEST_CASE("random numbers are functions of seed, purpose, stream and index") {
    const Random base(1, Purpose::test, 2);
    CHECK(base.uniform(7) == Random(1, Purpose::test, 2).uniform(7));
    CHECK(base.uniform(7) != base.uniform(8));
    CHECK(base.uniform(7) != base.uniform(7 + (uint64_t{1} << 32)));
    CHECK(base.uniform(7) != Random(2, Purpose::test, 2).uniform(7));
    CHECK(base.uniform(7) != Random(1 + (uint64_t{1} << 32), Purpose::test, 2).uniform(7));
    CHECK(base.uniform(7) != Random(1, Purpose::init, 2).uniform(7));
    CHECK(base.uniform(7) != Random(1, Purpose::test, 3).uniform(7));
    CHECK(stream_of("") == 2166136261u);
    CHECK(stream_of("a") == 0xe40c292cu);  // FNV-1a's published value
  }

  TEST_CASE("moments of uniform and normal numbers") {
    const Random random(3, Purpose::test);
    const int n = 200000;
    double uniform_sum = 0, sum = 0, squares = 0, fourth = 0;
    for (uint64_t i = 0; i < n; ++i) {
      const double u = random.uniform(i), x = random.normal(i);
      CHECK_UNARY(u >= 0 && u < 1 && std::isfinite(x));
      uniform_sum += u;
      sum += x;
      squares += x * x;
      fourth += x * x * x * x;
    }
    CHECK(std::abs(uniform_sum / n - 0.5) < 0.003);
    CHECK(std::abs(sum / n) < 0.01);
    CHECK(std::abs(squares / n - 1) < 0.02);
    CHECK(std::abs(fourth / n - 3) < 0.1);
  }

  TEST_CASE("below is in range and even") {
    const Random random(4, Purpose::test);
    std::vector<int> counts(7);
    for (uint64_t i = 0; i < 70000; ++i) ++counts.at(random.below(i, 7));
    for (int c : counts) CHECK(std::abs(c - 10000) < 500);
    CHECK(random.below(0, 1) == 0);
  }

  TEST_CASE("permutations hold every number once and depend on the stream") {
    for (const int64_t n : {0, 1, 2, 1000}) {
      const auto order = permutation(Random(5, Purpose::data_order), n);
      REQUIRE(order.size() == static_cast<size_t>(n));
      CHECK(std::set<int64_t>(order.begin(), order.end()).size() == order.size());
      CHECK(std::ranges::all_of(order, [&](int64_t i) { return i >= 0 && i < n; }));
    }
    CHECK(permutation(Random(5, Purpose::data_order), 50) ==
          permutation(Random(5, Purpose::data_order), 50));
    CHECK(permutation(Random(5, Purpose::data_order, 0), 50) !=
          permutation(Random(5, Purpose::data_order, 1), 50));
    // The first place is taken by everybody about equally often.
    std::vector<int> first(5);
    for (uint32_t s = 0; s < 5000; ++s)
      ++first.at(static_cast<size_t>(permutation(Random(6, Purpose::test, s), 5)[0]));
    for (int c : first) CHECK(std::abs(c - 1000) < 150);
  }

  TEST_CASE("bf16 rounds to nearest, ties to even, and keeps what is not a number") {
    CHECK(through_bf16(1.0f) == 1.0f);
    CHECK(through_bf16(1.0f + 0x1p-8f) == 1.0f);                       // half way, even below
    CHECK(through_bf16(1.0f + 3 * 0x1p-8f) == 1.0f + 0x1p-6f);         // half way, even above
    CHECK(through_bf16(1.0f + 0x1p-8f + 0x1p-20f) == 1.0f + 0x1p-7f);  // above half
    CHECK(through_bf16(-1.0f - 0x1p-8f) == -1.0f);
    CHECK(std::signbit(through_bf16(-0.0f)));
    CHECK(through_bf16(kInfinity) == kInfinity);
    CHECK(through_bf16(-kInfinity) == -kInfinity);
    CHECK(through_bf16(std::numeric_limits<float>::max()) == kInfinity);
    CHECK(std::isnan(through_bf16(kNan)));
    CHECK(std::isnan(
        through_bf16(std::bit_cast<float>(0x7f800001u))));  // a payload in the lower half only
    CHECK(std::isnan(through_bf16(std::bit_cast<float>(0xffffffffu))));
    for (uint32_t bits = 0; bits < 0x10000u; ++bits) {  // every bf16 survives
      const float x = std::bit_cast<float>(bits << 16);
      CHECK_UNARY(std::isnan(x) ? std::isnan(through_bf16(x)) : bf16(x).bits == bits);
    }
  }

  TEST_CASE("half precision takes the nearest of its values, ties to even") {
    double previous = 0;
    for (uint16_t half = 0; half < 0x7c00; ++half) {  // all finite ones from 0 up
      const float value = float_of_half(half);
      CHECK(half_of_float(value) == half);
      CHECK(half_of_float(-value) == (half | 0x8000));
      if (half > 0) {
        const auto middle = static_cast<float>((previous + static_cast<double>(value)) / 2);
        const int even = half % 2 == 0 ? half : half - 1;
        CHECK(half_of_float(middle) == even);
        CHECK(half_of_float(std::nextafter(middle, 0.0f)) == half - 1);
        CHECK(half_of_float(std::nextafter(middle, 1e9f)) == half);
      }
      previous = static_cast<double>(value);
    }
    const float infinity = std::numeric_limits<float>::infinity();
    CHECK(half_of_float(65519.996f) == 0x7bff);
    CHECK(half_of_float(65520.0f) == 0x7c00);
    CHECK(half_of_float(-infinity) == 0xfc00);
    CHECK(std::isnan(float_of_half(half_of_float(std::nanf("")))));
  }

  TEST_CASE("shapes and types print, compare and have limits") {
    CHECK(str(Shape{4, 128, 512}) == "[4, 128, 512]");
    CHECK(str(Shape{}) == "[]");
    CHECK(str(Type{DType::bf16, {2, 3}}) == "bf16[2, 3]");
    CHECK(Shape{}.elements() == 1);
    CHECK(Shape{}.last() == 1);
    CHECK(Shape{2, 3, 5}.rows() == 6);
    CHECK(Shape{0, 5}.elements() == 0);
    CHECK(Shape{2, 3}.with_last(7) == Shape{2, 7});
    CHECK(Shape{2, 3} != Shape{2, 3, 1});
    CHECK(Shape{2, 3} != Shape{3, 2});
    CHECK(Type{DType::f32, {2}} != Type{DType::f64, {2}});
    CHECK(Type{DType::f64, {2, 3}}.bytes() == 48);
    CHECK_THROWS_AS((Shape{1, 1, 1, 1, 1}), Error);
    CHECK_THROWS_AS(Shape{}.with_last(1), Error);
  }

  TEST_CASE("tensors are zero at first, aligned, and typed") {
    const OwnedTensor t(Type{DType::f32, {3, 5}});
    CHECK(std::ranges::all_of(t.as<float>(), [](float x) { return x == 0; }));
    CHECK(reinterpret_cast<uintptr_t>(t.view().data) % 64 == 0);
    CHECK_THROWS_AS(t.as<double>(), Error);
    CHECK(OwnedTensor(Type{DType::f32, {0}}).view());  // empty, yet bound
  }

  TEST_CASE("convert goes through every pair of floating-point types") {
    const std::vector<double> exact = {0, -1.5, 3.25, 128, -0.0078125};
    for (const DType from : {DType::f32, DType::bf16, DType::f16, DType::f64}) {
      for (const DType to : {DType::f32, DType::bf16, DType::f16, DType::f64}) {
        const OwnedTensor start(Type{DType::f64, {5}}), a(Type{from, {5}}), b(Type{to, {5}}),
            end(Type{DType::f64, {5}});
        std::ranges::copy(exact, start.as<double>().begin());
        convert(start.view(), a.view());
        convert(a.view(), b.view());
        convert(b.view(), end.view());
        CHECK(std::ranges::equal(end.as<double>(), exact));
      }
    }
    const OwnedTensor i(Type{DType::i32, {5}}), f(Type{DType::f32, {5}}), g(Type{DType::f32, {4}});
    CHECK_THROWS_AS(convert(i.view(), f.view()), Error);
    CHECK_THROWS_AS(convert(f.view(), i.view()), Error);
    CHECK_THROWS_AS(convert(f.view(), g.view()), Error);
  }

  TEST_CASE("parallel pieces cover every element once") {
    for (const int64_t n : {0, 1, 63, 64, 65, 1000}) {
      std::vector<std::atomic<int>> hits(static_cast<size_t>(n));
      parallel_pieces(n, 64, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) ++hits[static_cast<size_t>(i)];
      });
      CHECK(std::ranges::all_of(hits, [](const std::atomic<int>& h) { return h == 1; }));
    }
    CHECK_THROWS_AS(set_thread_count(0), Error);
  }

  TEST_CASE("the exponential is within 2 units in the last place over its range") {
    double worst = 0;
    float where = 0;
    auto check = [&](float x) {
      const double expected = std::exp(static_cast<double>(x));
      const auto nearest = static_cast<float>(expected);
      const double ulp = std::nextafter(nearest, kInfinity) - static_cast<double>(nearest);
      const double error = std::abs(static_cast<double>(cpu::exponential(x)) - expected) / ulp;
      if (!(error <= worst)) worst = error, where = x;
    };
    for (float x = -87.33f; x < 88.72f; x += 1.7e-4f) check(x);
    for (const float x :
         {0.0f, -0.0f, 1e-30f, -1e-30f, 1.0f, -1.0f, 0.34657359f, -0.34657359f, 88.72283f,
          -87.33654f, 88.3762f, 88.722f, std::numeric_limits<float>::denorm_min()}) {
      check(x);
    }
    INFO("worst at ", where, ": ", worst);
    CHECK(worst < 2);
    CHECK(cpu::exponential(0.0f) == 1.0f);
  }

  TEST_CASE("the exponential beyond its range, and of what is not a number") {
    for (const float x :
         {-87.34f, -100.0f, -1e10f, -std::numeric_limits<float>::max(), -kInfinity}) {
      CHECK(cpu::exponential(x) == 0.0f);
    }
    for (const float x : {88.73f, 100.0f, 1e10f, std::numeric_limits<float>::max(), kInfinity}) {
      CHECK(cpu::exponential(x) == kInfinity);
    }
    for (const uint32_t bits :
         {0x7fc00000u, 0xffc00000u, 0x7fc00001u, 0xffc00155u, 0x7f800001u, 0x7fffffffu}) {
      CHECK(std::isnan(cpu::exponential(std::bit_cast<float>(bits))));
    }
  }

  TEST_CASE("the exponential in lanes is that of one number, where no result is above 1") {
    auto check = [](float x) {
      const cpu::Vec<float> lanes = cpu::exponential_of_negative(cpu::Vec<float>{} + x);
      for (int i = 0; i < 16; ++i) CHECK_MESSAGE(lanes[i] == cpu::exponential(x), x);
    };
    for (float x = -89.0f; x <= 0.0f; x += 0.0137f) check(x);
    for (const float x : {-0.0f, -1e-30f, -87.33654f, -87.34f, -1e10f, -kInfinity}) check(x);
    for (const uint32_t bits : {0x7fc00000u, 0xffc00155u, 0x7f800001u, 0x7fffffffu})
      CHECK(std::isnan(
          cpu::exponential_of_negative(cpu::Vec<float>{} + std::bit_cast<float>(bits))[3]));
  }

  TEST_CASE("powers of two in lanes") {
    auto of = [](float x) { return cpu::power_of_two(cpu::Vec<float>{} + x)[7]; };
    double worst = 0;
    for (float x = -125.99f; x < 1.0f; x += 1.3e-4f)
      worst = std::max(worst, std::abs(of(x) / std::exp2(static_cast<double>(x)) - 1));
    CHECK(worst < 3e-6);
    for (const float x : {0.0f, -0.0f, -1e-30f}) CHECK(of(x) == 1.0f);
    CHECK(of(-126.0f) == std::numeric_limits<float>::min());
    for (const float x : {-126.1f, -1e10f, -std::numeric_limits<float>::max(), -kInfinity})
      CHECK(of(x) == 0.0f);
    CHECK(std::isnan(of(kInfinity - kInfinity)));
    CHECK(std::isnan(of(NAN)));
  }

  TEST_CASE("the sigmoid in lanes") {
    double worst = 0, worst_for_bf16 = 0;
    for (float x = -87.0f; x < 100.0f; x += 0.0173f) {
      const double expected = 1 / (1 + std::exp(-static_cast<double>(x)));
      CHECK(cpu::sigmoid(cpu::Vec<double>{} + x)[5] == doctest::Approx(expected).epsilon(1e-15));
      auto far = [&](float y) { return std::abs(y / expected - 1); };
      worst = std::max(worst, far(cpu::sigmoid(cpu::Vec<float>{} + x)[5]));
      worst_for_bf16 =
          std::max(worst_for_bf16, far(cpu::sigmoid_for<bf16>(cpu::Vec<float>{} + x)[5]));
    }
    CHECK(worst < 4e-7);
    CHECK(worst_for_bf16 < 7e-6);
    for (float x = -100.0f; x < -87.0f; x += 0.173f) {
      const double expected = 1 / (1 + std::exp(-static_cast<double>(x)));
      CHECK(cpu::sigmoid(cpu::Vec<float>{} + x)[5] == doctest::Approx(expected).epsilon(4e-7));
      CHECK(cpu::sigmoid(cpu::Vec<double>{} + x)[5] == doctest::Approx(expected).epsilon(1e-15));
    }
    for (const float x : {-88.0f, -1e10f, -kInfinity}) {
      const float s = cpu::sigmoid_for<bf16>(cpu::Vec<float>{} + x)[0];
      CHECK(s >= 0.0f);
      CHECK(s < 2e-38f);
    }
    for (const float x : {90.0f, 1e10f, kInfinity})
      CHECK(cpu::sigmoid_for<bf16>(cpu::Vec<float>{} + x)[0] == doctest::Approx(1).epsilon(1e-7));
    CHECK(std::isnan(cpu::sigmoid_for<bf16>(cpu::Vec<float>{} + NAN)[0]));
    CHECK(cpu::sigmoid(cpu::Vec<float>{})[0] == 0.5f);
    CHECK(cpu::sigmoid(cpu::Vec<float>{} - 200.0f)[0] == 0.0f);
    CHECK(cpu::sigmoid(cpu::Vec<float>{} + 200.0f)[0] == 1.0f);
    CHECK(std::isnan(cpu::sigmoid(cpu::Vec<float>{} + NAN)[0]));
  }

  TEST_CASE("transposing 16 x 16 words") {
    float numbers[16][16];
    for (int i = 0; i < 16; ++i) {
      for (int j = 0; j < 16; ++j) numbers[i][j] = static_cast<float>(16 * i + j);
    }
    cpu::Vec<float> rows[16];
    for (int i = 0; i < 16; ++i) rows[i] = cpu::load(numbers[i]);
    cpu::transpose(rows);
    for (int i = 0; i < 16; ++i) cpu::store(numbers[i], rows[i]);
    for (int i = 0; i < 16; ++i) {
      for (int j = 0; j < 16; ++j) CHECK(numbers[i][j] == static_cast<float>(16 * j + i));
    }
  }

  TEST_CASE("lanes go to and from bf16 as single numbers do, at any address") {
    const uint32_t kinds[] = {0x3f800000, 0xbf808000, 0x3f818000, 0x3f807fff,
                              0x3f808001, 0x7f7fffff, 0xff7f8000, 0x7f800000,
                              0xff800000, 0x7f800001, 0x7fc12345, 0xffffffff,
                              0x00800000, 0x80000000, 0x42f6e979, 0xc2f6e979};
    float x[16];
    for (size_t i = 0; i < 16; ++i) x[i] = std::bit_cast<float>(kinds[i]);
    for (size_t at = 0; at < 3; ++at) {
      bf16 narrow[18] = {};
      cpu::store(narrow + at, cpu::load(x));
      float back[16];
      cpu::store(back, cpu::load(narrow + at));
      for (size_t i = 0; i < 16; ++i) {
        CHECK(narrow[at + i].bits == bf16(x[i]).bits);
        CHECK(std::bit_cast<uint32_t>(back[i]) == uint32_t{bf16(x[i]).bits} << 16);
      }
    }
  }

  TEST_CASE("a few lanes: the others are zeros, and stay as they are in memory") {
    float x[16];
    std::iota(x, x + 16, 1.0f);
    for (int64_t n = 1; n <= 16; ++n) {
      float got[16], kept[16];
      std::fill(kept, kept + 16, -1.0f);
      cpu::store(got, cpu::load(x, n));
      cpu::store(kept, cpu::load(x), n);
      for (int64_t i = 0; i < 16; ++i) {
        CHECK(got[i] == (i < n ? x[i] : 0.0f));
        CHECK(kept[i] == (i < n ? x[i] : -1.0f));
      }
    }
  }

  TEST_CASE("dot and lane sums") {
    for (const int64_t n : {0, 1, 7, 16, 31, 32, 33, 100}) {
      std::vector<double> a(static_cast<size_t>(n)), b(static_cast<size_t>(n));
      std::iota(a.begin(), a.end(), 1.0);
      std::iota(b.begin(), b.end(), -5.0);
      CHECK(cpu::dot(a.data(), b.data(), n) ==
            std::inner_product(a.begin(), a.end(), b.begin(), 0.0));
    }
  }
}
