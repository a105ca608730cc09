// oneDNN's matmul through its C interface, with the argument arrays and the scratchpads made
// beforehand. (oneDNN itself still allocates a few hundred bytes for the arguments at every call;
// Eigen's provider allocates nothing.)
//
// How oneDNN divides a product among threads, and with it the order of its sums, depends on their
// number. So a product is cut into panels by its shape alone, and each panel is a product that
// oneDNN makes on one thread: panels of the result, or, where the sums are long and the result
// small, of the depth.
#include <dnnl.h>

#include <algorithm>
#include <array>
#include <vector>

#include "backend/cpu/kernels.hpp"
#include "backend/cpu/pieces.hpp"
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

// A panel of a product: its part of A and of C lies in the whole, that of B perhaps elsewhere.
struct Panel {
  int64_t m, k, n;
  int64_t b_stride;  // between rows of B as it is stored
};

class Primitive {
 public:
  Primitive(const ProductShape& s, const Panel& panel) {
    const OneThread guard;
    const auto [m, k, n, b_stride] = panel;
    const bool ta = s.ta == Transpose::yes, tb = s.tb == Transpose::yes;
    descs_[0] = ta ? matrix(s.dtype, m, k, 1, s.m) : matrix(s.dtype, m, k, s.k, 1);
    descs_[1] = tb ? matrix(s.dtype, k, n, 1, b_stride) : matrix(s.dtype, k, n, b_stride, 1);
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
  panels = std::max(panels, pieces(side, 512));
  return std::min(side, rounded_up(pieces(side, panels), 16));
}

// Calls for the panels of a side that is cut into pieces of `size`, the last perhaps shorter.
class Panels {
 public:
  // make(size): the primitive of a panel
  template <class Make>
  Panels(int64_t side, int64_t size, const Make& make)
      : side_(side), size_(size), whole_(make(size)) {
    if (side % size != 0) rest_ = make(side % size);
    for (int64_t begin = 0; begin < side; begin += size)
      calls_.push_back(std::make_unique<Call>(begin + size <= side ? *whole_ : *rest_));
  }
  int64_t count() const { return static_cast<int64_t>(calls_.size()); }
  int64_t begin(int64_t i) const { return i * size_; }
  int64_t size(int64_t i) const { return std::min(size_, side_ - begin(i)); }
  int64_t largest() const { return size_; }
  size_t scratch_bytes() const {
    return std::max(whole_->scratch_bytes(), rest_ ? rest_->scratch_bytes() : 0);
  }
  const Call& operator[](int64_t i) const { return *calls_[static_cast<size_t>(i)]; }

 private:
  int64_t side_, size_;
  std::unique_ptr<Primitive> whole_, rest_;  // rest_: the last, smaller panel
  std::vector<std::unique_ptr<Call>> calls_;
};

const void* at(const void* data, DType dtype, int64_t index) {
  return static_cast<const std::byte*>(data) + static_cast<size_t>(index) * size_of(dtype);
}

bool widens(const ProductShape& s) {
  return s.b_dtype != s.dtype;
}

class OnednnProduct final : public Product {
 public:
  explicit OnednnProduct(const ProductShape& s)
      : s_(s),
        by_rows_(s.m >= s.n),
        panels_(std::max(s.m, s.n), panel_size(std::max(s.m, s.n)),
                [this](int64_t size) { return std::make_unique<Primitive>(s_, panel(size)); }) {
    slot_bytes_ = panels_.scratch_bytes();
    if (widens(s)) slot_bytes_ += scratch_room(panels_.largest() * s.k, DType::f32);
  }

  size_t scratch_bytes() const override { return slot_bytes_ * static_cast<size_t>(slots_); }

  void run(const void* a, const void* b, void* c, void* scratch) const override {
    const int64_t row_step = s_.ta == Transpose::yes ? 1 : s_.k,
                  column_step = s_.tb == Transpose::yes ? s_.k : 1;
    for_panels(panels_.count(), slots_, [&](int64_t i, int64_t slot) {
      const int64_t row = by_rows_ ? panels_.begin(i) : 0, column = by_rows_ ? 0 : panels_.begin(i);
      auto* own = static_cast<std::byte*>(scratch) + static_cast<size_t>(slot) * slot_bytes_;
      auto* wide = reinterpret_cast<float*>(own + panels_.scratch_bytes());
      if (widens(s_)) widen_panel(s_, b, column, panels_.size(i), panels_.largest(), wide);
      panels_[i].run(at(a, s_.dtype, row * row_step),
                     widens(s_) ? wide : at(b, s_.b_dtype, column * column_step),
                     const_cast<void*>(at(c, s_.c_dtype, row * s_.n + column)), own);
    });
  }

 private:
  Panel panel(int64_t size) const {
    const bool tb = s_.tb == Transpose::yes;
    const int64_t largest = panel_size(std::max(s_.m, s_.n));
    return {.m = by_rows_ ? size : s_.m,
            .k = s_.k,
            .n = by_rows_ ? s_.n : size,
            .b_stride = tb ? s_.k : (widens(s_) ? largest : s_.n)};
  }

  ProductShape s_;
  bool by_rows_;
  Panels panels_;
  int64_t slots_ = thread_count();
  size_t slot_bytes_ = 0;
};

// Sums so long that both operands are far larger than the result: panels of the result would each
// fetch one of them as a whole.
constexpr int64_t kDepthPanels = 8, kLong = 16;

bool is_long(const ProductShape& s) {
  return s.k >= kLong * std::max(s.m, s.n) && std::min(s.m, s.n) >= 64;
}

// Every panel of the depth has sums of its own, which are added in order.
class LongOnednnProduct final : public Product {
 public:
  explicit LongOnednnProduct(const ProductShape& s)
      : s_(s), panels_(s.k, rounded_up(s.k / kDepthPanels, 16), [&s](int64_t size) {
          ProductShape sums = s;
          sums.c_dtype = DType::f32;
          sums.addend = Addend::none;
          const bool tb = s.tb == Transpose::yes;
          return std::make_unique<Primitive>(
              sums, Panel{s.m, size, s.n, tb ? (widens(s) ? size : s.k) : s.n});
        }) {
    sums_bytes_ = scratch_room(s.m * s.n, DType::f32);
    slot_bytes_ = panels_.scratch_bytes();
    if (widens(s)) slot_bytes_ += scratch_room(panels_.largest() * s.n, DType::f32);
  }

  size_t scratch_bytes() const override {
    return sums_bytes_ * static_cast<size_t>(panels_.count()) +
           slot_bytes_ * static_cast<size_t>(slots_);
  }

  void run(const void* a, const void* b, void* c, void* scratch) const override {
    auto* sums = static_cast<std::byte*>(scratch);
    auto* slots = sums + sums_bytes_ * static_cast<size_t>(panels_.count());
    const bool tb = s_.tb == Transpose::yes;
    for_panels(panels_.count(), slots_, [&](int64_t i, int64_t slot) {
      const int64_t k = panels_.begin(i), size = panels_.size(i);
      auto* own = slots + static_cast<size_t>(slot) * slot_bytes_;
      auto* wide = reinterpret_cast<float*>(own + panels_.scratch_bytes());
      const void* b_panel = at(b, s_.b_dtype, tb ? k : k * s_.n);
      if (widens(s_)) {
        widen({b_panel, s_.b_dtype, tb ? s_.n : size, tb ? size : s_.n, tb ? s_.k : s_.n}, wide,
              tb ? size : s_.n);
      }
      panels_[i].run(at(a, s_.dtype, s_.ta == Transpose::yes ? k * s_.m : k),
                     widens(s_) ? wide : b_panel, sums + static_cast<size_t>(i) * sums_bytes_, own);
    });
    if (s_.c_dtype == DType::bf16) return add_up(sums, static_cast<bf16*>(c));
    add_up(sums, static_cast<float*>(c));
  }

 private:
  template <class C>
  void add_up(const std::byte* sums, C* c) const {
    parallel_pieces(s_.m * s_.n, kStreamPiece, [&](int64_t begin, int64_t end) {
      for (int64_t j = begin; j < end; ++j) {
        float sum = s_.addend == Addend::result ? value_as<float>(c[j]) : 0.0f;
        for (int64_t i = 0; i < panels_.count(); ++i)
          sum += reinterpret_cast<const float*>(sums + static_cast<size_t>(i) * sums_bytes_)[j];
        c[j] = value_as<C>(sum);
      }
    });
  }

  ProductShape s_;
  Panels panels_;
  int64_t slots_ = thread_count();
  size_t sums_bytes_ = 0, slot_bytes_ = 0;
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
  if (is_long(s)) return std::make_unique<LongOnednnProduct>(s);
  return std::make_unique<OnednnProduct>(s);
}

}  // namespace cpu

}  // namespace mora
