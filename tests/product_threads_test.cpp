// Products give the same bits for any number of threads, whatever the shape: threads move the
// borders of what is computed together, and no border may round differently.
#include <doctest/doctest.h>

#include <ostream>

#include "backend/cpu/product.hpp"
#include "op_harness.hpp"
#include "tiny_llama.hpp"

TEST_SUITE_BEGIN("product threads");

namespace mora::testing {
namespace {

using cpu::ProductShape;

struct Operands {
  OwnedTensor a, b, c;

  explicit Operands(const ProductShape& s)
      : a(matrix(s.ta, s.m, s.k, s.dtype)),
        b(matrix(s.tb, s.k, s.n, s.b_dtype)),
        c(matrix(Transpose::no, s.m, s.n, s.c_dtype)) {}

  static OwnedTensor matrix(Transpose t, int64_t rows, int64_t columns, DType dtype) {
    if (t == Transpose::yes) std::swap(rows, columns);
    OwnedTensor made({dtype, {rows, columns}});
    fill_random(made.view(), str(rows, " x ", columns), 1);
    return made;
  }
};

Bytes product(const ProductShape& s, MatmulProvider provider, const Operands& in, int threads) {
  const Threads guard(threads);
  const auto prepared = cpu::prepare_product(s, provider);
  const Buffer scratch(prepared->scratch_bytes());
  OwnedTensor c({s.c_dtype, {s.m, s.n}});
  convert(in.c.view(), c.view());
  prepared->run(in.a.view().data, in.b.view().data, c.view().data, scratch.data());
  return bytes_of(c.view());
}

struct Types {
  DType a, b, c;
};

// Widths that are whole tiles and that are not, of one chunk and of several, deep and flat.
std::vector<ProductShape> shapes() {
  struct Sizes {
    int64_t m, k, n;
  };
  std::vector<ProductShape> all;
  for (const Sizes size : {Sizes{130, 512, 130},
                           {130, 2100, 130},
                           {111, 512, 111},
                           {512, 96, 520},
                           {96, 128, 1000},
                           {64, 512, 2731},
                           {257, 64, 288},
                           {1, 300, 700},
                           {33, 65, 17}}) {
    for (const Transpose ta : {Transpose::no, Transpose::yes}) {
      for (const cpu::Addend addend : {cpu::Addend::none, cpu::Addend::result})
        all.push_back({.m = size.m, .k = size.k, .n = size.n, .ta = ta, .addend = addend});
    }
  }
  return all;
}

TEST_CASE("a product has the same bits for any number of threads") {
  for (ProductShape s : shapes()) {
    for (const Types types : {Types{DType::f32, DType::f32, DType::f32},
                              {DType::f32, DType::bf16, DType::f32},
                              {DType::bf16, DType::bf16, DType::f32},
                              {DType::bf16, DType::bf16, DType::bf16}}) {
      s.dtype = types.a;
      s.b_dtype = types.b;
      s.c_dtype = types.c;
      const Operands in(s);
      for (const MatmulProvider provider : {MatmulProvider::automatic, MatmulProvider::eigen}) {
        const Bytes alone = product(s, provider, in, 1);
        for (const int threads : {2, 3, 4, 5, 8}) {
          CHECK_MESSAGE(product(s, provider, in, threads) == alone, s.m, " x ", s.k, " x ", s.n,
                        ", ", types.a, " and ", types.b, " to ", types.c, ", addend ",
                        s.addend == cpu::Addend::result, ", A transposed ", s.ta == Transpose::yes,
                        ", ", threads, " threads");
        }
      }
    }
  }
}

}  // namespace
}  // namespace mora::testing

TEST_SUITE_END();
