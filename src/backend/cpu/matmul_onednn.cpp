// oneDNN's matmul through its C interface, with the argument arrays and the scratchpads made
// beforehand. (oneDNN itself still allocates a few hundred bytes for the arguments at every call;
// Eigen's provider allocates nothing.)
//
// How oneDNN divides a product among threads, and with it the order of its sums, depends on their
// number. So the result is cut into panels by its shape alone, and each panel is a product that
// oneDNN makes on one thread.
#include <dnnl.h>

#include <algorithm>
#include <array>
#include <vector>

#include "backend/cpu/kernels.hpp"
#include "backend/cpu/product.hpp"
#include "mora/core/parallel.hpp"

namespace mora {

bool has_onednn() {
  return true;
}

namespace cpu {

namespace {

void must(dnnl_status_t status, const char* what) {
  ensure(status == dnnl_success, "oneDNN: ", what, " failed with status ",
         static_cast<int>(status));
}

bool allows(dnnl_cpu_isa_t needed) {
  // Sets of instructions as bits: a larger number need not hold a smaller one's.
  const auto isa = static_cast<unsigned>(dnnl_get_effective_cpu_isa()),
             bits = static_cast<unsigned>(needed);
  return (isa & bits) == bits;
}

// While it lives, oneDNN sees one thread.
class OneThread {
 public:
  OneThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(before_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

dnnl_engine_t engine() {
  static const dnnl_engine_t instance = [] {
    dnnl_engine_t made = nullptr;
    must(dnnl_engine_create(&made, dnnl_cpu, 0), "engine_create");
    return made;
  }();
  return instance;
}

dnnl_memory_desc_t matrix(DType dtype, int64_t rows, int64_t columns, int64_t row_stride,
                          int64_t column_stride) {
  const dnnl_dims_t dims = {rows, columns};
  const dnnl_dims_t strides = {row_stride, column_stride};
  dnnl_memory_desc_t md;
  const dnnl_data_type_t type = dtype == DType::bf16 ? dnnl_bf16 : dnnl_f32;
  must(dnnl_memory_desc_init_by_strides(&md, 2, dims, type, strides), "memory_desc_init");
  return md;
}

// The product of a panel of m x n of the result of s.
class Primitive {
 public:
  // b_stride: between rows of the panel's part of B, where B is not transposed.
  Primitive(const ProductShape& s, int64_t m, int64_t n, int64_t b_stride) {
    const OneThread guard;
    const bool ta = s.ta == Transpose::yes, tb = s.tb == Transpose::yes;
    descs_[0] = ta ? matrix(s.dtype, m, s.k, 1, s.m) : matrix(s.dtype, m, s.k, s.k, 1);
    descs_[1] = tb ? matrix(s.dtype, s.k, n, 1, s.k) : matrix(s.dtype, s.k, n, b_stride, 1);
    descs_[2] = matrix(s.c_dtype, m, n, s.n, 1);
    dnnl_primitive_attr_t attr = nullptr;
    must(dnnl_primitive_attr_create(&attr), "attr_create");
    dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    if (s.alpha != 1.0) {
      const auto alpha = static_cast<float>(s.alpha);
      must(dnnl_primitive_attr_set_output_scales(attr, 1, 0, &alpha), "set_output_scales");
    }
    if (s.addend == Addend::result) {
      dnnl_post_ops_t ops = nullptr;
      must(dnnl_post_ops_create(&ops), "post_ops_create");
      must(dnnl_post_ops_append_sum(ops, 1.0f), "append_sum");
      must(dnnl_primitive_attr_set_post_ops(attr, ops), "set_post_ops");
      dnnl_post_ops_destroy(ops);
    }
    dnnl_matmul_desc_t desc;
    must(dnnl_matmul_desc_init(&desc, &descs_[0], &descs_[1], nullptr, &descs_[2]),
         "matmul_desc_init");
    dnnl_primitive_desc_t pd = nullptr;
    must(dnnl_primitive_desc_create(&pd, &desc, attr, engine(), nullptr), "primitive_desc_create");
    descs_[3] = *dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    must(dnnl_primitive_create(&handle_, pd), "primitive_create");
    dnnl_primitive_desc_destroy(pd);
    dnnl_primitive_attr_destroy(attr);
  }
  Primitive(const Primitive&) = delete;
  Primitive& operator=(const Primitive&) = delete;
  ~Primitive() { dnnl_primitive_destroy(handle_); }

  dnnl_primitive_t handle() const { return handle_; }
  const std::array<dnnl_memory_desc_t, 4>& descs() const { return descs_; }  // a, b, c, scratch
  size_t scratch_bytes() const { return (dnnl_memory_desc_get_size(&descs_[3]) + 63) / 64 * 64; }

 private:
  dnnl_primitive_t handle_ = nullptr;
  std::array<dnnl_memory_desc_t, 4> descs_{};
};

// A primitive with memory objects and a stream of its own, so that panels run at the same time; the
// pointers are set at each run.
class Call {
 public:
  explicit Call(const Primitive& primitive) : primitive_(primitive.handle()) {
    const std::array<int, 4> names = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST,
                                      DNNL_ARG_SCRATCHPAD};
    for (size_t i = 0; i < 4; ++i) {
      must(dnnl_memory_create(&memory_[i], &primitive.descs()[i], engine(), DNNL_MEMORY_NONE),
           "memory_create");
      arguments_[i] = {names[i], memory_[i]};
    }
    must(dnnl_stream_create(&stream_, engine(), dnnl_stream_default_flags), "stream_create");
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  ~Call() {
    dnnl_stream_destroy(stream_);
    for (dnnl_memory_t m : memory_) dnnl_memory_destroy(m);
  }

  // To be called within a parallel region (or with one thread in all): there oneDNN uses one
  // thread.
  void run(const void* a, const void* b, void* c, void* scratch) const {
    dnnl_memory_set_data_handle(memory_[0], const_cast<void*>(a));
    dnnl_memory_set_data_handle(memory_[1], const_cast<void*>(b));
    dnnl_memory_set_data_handle(memory_[2], c);
    dnnl_memory_set_data_handle(memory_[3], scratch);
    dnnl_primitive_execute(primitive_, stream_, 4, arguments_.data());
    dnnl_stream_wait(stream_);
  }

 private:
  dnnl_primitive_t primitive_;
  dnnl_stream_t stream_ = nullptr;
  std::array<dnnl_memory_t, 4> memory_{};
  std::array<dnnl_exec_arg_t, 4> arguments_{};
};

// Panels of rows where there are more rows than columns, else of columns. They are equal, and their
// number a power of two up to eight, so that 2, 4 or 8 threads end together; two are made of short
// sides, more only while none is so thin that packing the other operand once per panel would
// dominate. Of long sides there are more, none so thick that threads would wait.
int64_t panel_size(int64_t side) {
  int64_t panels = 1;
  while (panels < 8 && side / (2 * panels) >= (panels == 1 ? 64 : 128)) panels *= 2;
  panels = std::max(panels, (side + 511) / 512);
  const int64_t size = (side + panels - 1) / panels;
  return std::min(side, (size + 15) / 16 * 16);
}

class OnednnProduct final : public Product {
 public:
  explicit OnednnProduct(const ProductShape& s)
      : s_(s), by_rows_(s.m >= s.n), panel_(panel_size(std::max(s.m, s.n))), whole_(make(panel_)) {
    const int64_t side = std::max(s.m, s.n);
    if (side % panel_ != 0) rest_ = make(side % panel_);
    for (int64_t begin = 0; begin < side; begin += panel_) {
      calls_.push_back(std::make_unique<Call>(begin + panel_ <= side ? *whole_ : *rest_));
    }
    panel_scratch_ = std::max(whole_->scratch_bytes(), rest_ ? rest_->scratch_bytes() : 0);
    slot_bytes_ = panel_scratch_;
    if (widens()) {
      slot_bytes_ += scratch_room(panel_ * s.k, DType::f32);
    }
  }

  size_t scratch_bytes() const override { return slot_bytes_ * static_cast<size_t>(slots_); }

  void run(const void* a, const void* b, void* c, void* scratch) const override {
    const int64_t row_step = s_.ta == Transpose::yes ? 1 : s_.k,
                  column_step = s_.tb == Transpose::yes ? s_.k : 1;
    for_panels(static_cast<int64_t>(calls_.size()), slots_, [&](int64_t i, int64_t slot) {
      const int64_t row = by_rows_ ? i * panel_ : 0, column = by_rows_ ? 0 : i * panel_;
      auto* own = static_cast<std::byte*>(scratch) + static_cast<size_t>(slot) * slot_bytes_;
      auto* wide = reinterpret_cast<float*>(own + panel_scratch_);
      if (widens()) widen_panel(s_, b, column, std::min(panel_, s_.n - column), panel_, wide);
      calls_[static_cast<size_t>(i)]->run(at(a, s_.dtype, row * row_step),
                                          widens() ? wide : at(b, s_.b_dtype, column * column_step),
                                          const_cast<void*>(at(c, s_.c_dtype, row * s_.n + column)),
                                          own);
    });
  }

 private:
  static const void* at(const void* data, DType dtype, int64_t index) {
    return static_cast<const std::byte*>(data) + static_cast<size_t>(index) * size_of(dtype);
  }
  bool widens() const { return s_.b_dtype != s_.dtype; }
  std::unique_ptr<Primitive> make(int64_t size) const {
    const int64_t b_stride = widens() ? panel_ : s_.n;
    return by_rows_ ? std::make_unique<Primitive>(s_, size, s_.n, b_stride)
                    : std::make_unique<Primitive>(s_, s_.m, size, b_stride);
  }

  ProductShape s_;
  bool by_rows_;
  int64_t panel_;
  std::unique_ptr<Primitive> whole_, rest_;  // rest_: the last, smaller panel
  std::vector<std::unique_ptr<Call>> calls_;
  int64_t slots_ = thread_count();
  size_t panel_scratch_ = 0, slot_bytes_ = 0;
};

}  // namespace

bool onednn_multiplies_bf16() {
  return allows(dnnl_cpu_isa_avx512_core_bf16);
}

bool onednn_leaves_amx() {
  return allows(dnnl_cpu_isa_avx512_core_amx);
}

std::unique_ptr<Product> onednn_product(const ProductShape& s) {
  if (s.dtype == DType::f64 || (s.dtype == DType::bf16 && !onednn_multiplies_bf16()))
    return nullptr;
  return std::make_unique<OnednnProduct>(s);
}

}  // namespace cpu

}  // namespace mora
