// oneDNN's matmul through its C interface, with the argument array and the scratchpad made beforehand: the C++
// interface builds a map, and so allocates, at every call.
//
// Where oneDNN might split the sum over threads (a transposed A with many rows: a weight gradient over tokens) the sum
// is cut into fixed chunks that are added in order, so that the bits do not depend on the number of threads.
#include <dnnl.h>

#include <algorithm>
#include <array>

#include "backend/cpu/product.hpp"

namespace mora {

bool has_onednn() { return true; }

namespace cpu {

namespace {

constexpr int64_t kChunk = 2048;

void must(dnnl_status_t status, const char* what) {
  ensure(status == dnnl_success, "oneDNN: ", what, " failed with status ", static_cast<int>(status));
}

struct Runtime {
  dnnl_engine_t engine = nullptr;
  dnnl_stream_t stream = nullptr;

  Runtime() {
    must(dnnl_engine_create(&engine, dnnl_cpu, 0), "engine_create");
    must(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags), "stream_create");
  }
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;
  ~Runtime() {
    dnnl_stream_destroy(stream);
    dnnl_engine_destroy(engine);
  }
};

const Runtime& runtime() {
  static const Runtime instance;
  return instance;
}

dnnl_memory_desc_t matrix(int64_t rows, int64_t columns, int64_t row_stride, int64_t column_stride) {
  const dnnl_dims_t dims = {rows, columns};
  const dnnl_dims_t strides = {row_stride, column_stride};
  dnnl_memory_desc_t md;
  must(dnnl_memory_desc_init_by_strides(&md, 2, dims, dnnl_f32, strides), "memory_desc_init");
  return md;
}

// One primitive with its memory objects; the pointers are set at each run.
class Primitive {
 public:
  Primitive(const ProductShape& s, int64_t k, Addend addend) {
    const bool ta = s.ta == Transpose::yes, tb = s.tb == Transpose::yes;
    const dnnl_memory_desc_t a = ta ? matrix(s.m, k, 1, s.m) : matrix(s.m, k, s.k, 1);
    const dnnl_memory_desc_t b = tb ? matrix(k, s.n, 1, s.k) : matrix(k, s.n, s.n, 1);
    const dnnl_memory_desc_t c = matrix(s.m, s.n, s.n, 1);
    dnnl_primitive_attr_t attr = nullptr;
    must(dnnl_primitive_attr_create(&attr), "attr_create");
    dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (s.alpha != 1.0) {
      const auto alpha = static_cast<float>(s.alpha);
      must(dnnl_primitive_attr_set_output_scales(attr, 1, 0, &alpha), "set_output_scales");
    }
    if (addend == Addend::result) {
      dnnl_post_ops_t ops = nullptr;
      must(dnnl_post_ops_create(&ops), "post_ops_create");
      must(dnnl_post_ops_append_sum(ops, 1.0f), "append_sum");
      must(dnnl_primitive_attr_set_post_ops(attr, ops), "set_post_ops");
      dnnl_post_ops_destroy(ops);
    }
    dnnl_matmul_desc_t desc;
    must(dnnl_matmul_desc_init(&desc, &a, &b, nullptr, &c), "matmul_desc_init");
    dnnl_primitive_desc_t pd = nullptr;
    must(dnnl_primitive_desc_create(&pd, &desc, attr, runtime().engine, nullptr), "primitive_desc_create");
    const dnnl_memory_desc_t* scratchpad = dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    scratch_bytes_ = dnnl_memory_desc_get_size(scratchpad);
    must(dnnl_primitive_create(&primitive_, pd), "primitive_create");
    const std::array<const dnnl_memory_desc_t*, 4> descs = {&a, &b, &c, scratchpad};
    const std::array<int, 4> names = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_SCRATCHPAD};
    for (size_t i = 0; i < 4; ++i) {
      must(dnnl_memory_create(&memory_[i], descs[i], runtime().engine, DNNL_MEMORY_NONE), "memory_create");
      arguments_[i] = {names[i], memory_[i]};
    }
    dnnl_primitive_desc_destroy(pd);
    dnnl_primitive_attr_destroy(attr);
  }
  Primitive(const Primitive&) = delete;
  Primitive& operator=(const Primitive&) = delete;
  ~Primitive() {
    for (dnnl_memory_t m : memory_) dnnl_memory_destroy(m);
    dnnl_primitive_destroy(primitive_);
  }

  size_t scratch_bytes() const { return scratch_bytes_; }

  void run(const float* a, const float* b, float* c, void* scratch) const {
    dnnl_memory_set_data_handle(memory_[0], const_cast<float*>(a));
    dnnl_memory_set_data_handle(memory_[1], const_cast<float*>(b));
    dnnl_memory_set_data_handle(memory_[2], c);
    dnnl_memory_set_data_handle(memory_[3], scratch);
    dnnl_primitive_execute(primitive_, runtime().stream, 4, arguments_.data());
    dnnl_stream_wait(runtime().stream);
  }

 private:
  dnnl_primitive_t primitive_ = nullptr;
  size_t scratch_bytes_ = 0;
  std::array<dnnl_memory_t, 4> memory_{};
  std::array<dnnl_exec_arg_t, 4> arguments_{};
};

class OnednnProduct final : public Product {
 public:
  explicit OnednnProduct(const ProductShape& s) : s_(s) {
    chunk_ = s.ta == Transpose::yes && s.k > kChunk ? kChunk : s.k;
    first_ = std::make_unique<Primitive>(s, chunk_, s.addend);
    if (chunk_ < s.k) next_ = std::make_unique<Primitive>(s, chunk_, Addend::result);
    if (s.k % chunk_ != 0) last_ = std::make_unique<Primitive>(s, s.k % chunk_, Addend::result);
    for (const Primitive* p : {first_.get(), next_.get(), last_.get()}) {
      if (p != nullptr) scratch_bytes_ = std::max(scratch_bytes_, p->scratch_bytes());
    }
  }

  size_t scratch_bytes() const override { return scratch_bytes_; }

  void run(const void* a, const void* b, void* c, void* scratch) const override {
    const auto* pa = static_cast<const float*>(a);
    const auto* pb = static_cast<const float*>(b);
    const int64_t a_step = s_.ta == Transpose::yes ? s_.m : 1;
    const int64_t b_step = s_.tb == Transpose::yes ? 1 : s_.n;
    for (int64_t k = 0; k < s_.k; k += chunk_) {
      const Primitive& p = k == 0 ? *first_ : (k + chunk_ <= s_.k ? *next_ : *last_);
      p.run(pa + k * a_step, pb + k * b_step, static_cast<float*>(c), scratch);
    }
  }

 private:
  ProductShape s_;
  int64_t chunk_;
  size_t scratch_bytes_ = 0;
  std::unique_ptr<Primitive> first_, next_, last_;
};

}  // namespace

std::unique_ptr<Product> onednn_product(const ProductShape& s) {
  if (s.dtype != DType::f32) return nullptr;
  return std::make_unique<OnednnProduct>(s);
}

}  // namespace cpu

}  // namespace mora
