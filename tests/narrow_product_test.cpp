// Products with a matrix stored in 16 bits are those with the matrix widened first, bit for bit, on
// both sides of the cut into panels; and widening takes memory for panels, not for the matrix.
#include <doctest/doctest.h>

#include <cstring>

#include "backend/cpu/product.hpp"
#include "mora/core/random.hpp"

TEST_SUITE_BEGIN("narrow product");

namespace mora::testing {
namespace {

using cpu::prepare_product;
using cpu::Product;
using cpu::ProductShape;

OwnedTensor random_matrix(int64_t rows, int64_t columns, uint64_t seed) {
  OwnedTensor t({DType::f32, {rows, columns}});
  const Random random(seed, Purpose::test);
  for (size_t i = 0; i < t.as<float>().size(); ++i)
    t.as<float>()[i] = static_cast<float>(random.normal(i));
  return t;
}

OwnedTensor as_type(const OwnedTensor& from, DType dtype) {
  OwnedTensor to({dtype, from.view().shape()});
  convert(from.view(), to.view());
  return to;
}

void run(const ProductShape& s, MatmulProvider provider, const OwnedTensor& a, const OwnedTensor& b,
         const OwnedTensor& c) {
  const std::unique_ptr<Product> product = prepare_product(s, provider);
  const Buffer scratch(product->scratch_bytes());
  product->run(a.view().data, b.view().data, c.view().data, scratch.data());
}

TEST_CASE("panels of a narrow matrix give the bits of the widened matrix") {
  struct Sizes {
    int64_t m, k, n;
  };
  for (const Sizes size : {Sizes{1, 96, 700},
                           {3, 257, 1100},
                           {20, 300, 1100},
                           {64, 128, 1500},
                           {100, 33, 101},
                           {200, 64, 70},
                           {16, 1500, 513}}) {
    const OwnedTensor a = random_matrix(size.m, size.k, 1);
    for (const Transpose tb : {Transpose::no, Transpose::yes}) {
      const bool t = tb == Transpose::yes;
      const OwnedTensor exact = random_matrix(t ? size.n : size.k, t ? size.k : size.n, 2);
      for (const DType type : {DType::bf16, DType::f16}) {
        const OwnedTensor narrow = as_type(exact, type), wide = as_type(narrow, DType::f32);
        for (const MatmulProvider provider : {MatmulProvider::eigen, MatmulProvider::automatic}) {
          CAPTURE(size.m);
          CAPTURE(size.n);
          CAPTURE(t);
          CAPTURE(name_of(type));
          ProductShape s{.m = size.m, .k = size.k, .n = size.n, .tb = tb, .alpha = 0.5};
          const OwnedTensor expected = random_matrix(size.m, size.n, 3),
                            found = as_type(expected, DType::f32);
          s.addend = cpu::Addend::result;
          run(s, provider, a, wide, expected);
          s.b_dtype = type;
          run(s, provider, a, narrow, found);
          CHECK(std::memcmp(expected.view().data, found.view().data, found.view().bytes()) == 0);
        }
      }
    }
  }
}

TEST_CASE("a large matrix is widened panel by panel") {
  for (const MatmulProvider provider : {MatmulProvider::eigen, MatmulProvider::automatic}) {
    const ProductShape s{
        .m = 64, .k = 1024, .n = 32000, .tb = Transpose::yes, .b_dtype = DType::bf16};
    const size_t matrix = static_cast<size_t>(s.k * s.n) * sizeof(float),
                 panels = prepare_product(s, provider)->scratch_bytes();
    CHECK(panels > 0);
    CHECK(panels / static_cast<size_t>(thread_count()) < matrix / 16);
  }
}

}  // namespace
}  // namespace mora::testing

TEST_SUITE_END();
