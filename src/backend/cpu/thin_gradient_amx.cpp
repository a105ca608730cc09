// The gradient of a thin weight in bf16, by AMX.
#include <algorithm>

#include "backend/cpu/amx.hpp"
#include "backend/cpu/kernels.hpp"
#include "backend/cpu/thin_gradient.hpp"

namespace mora::cpu {

namespace {

constexpr int64_t kMostWide = 1024;  // columns that are packed at once

class AmxThinGradient final : public ThinGradient {
 public:
  explicit AmxThinGradient(const ProductShape& s)
      : ThinGradient(s), columns_(piece(wide(), kMostWide, amx::kTile)) {}

 private:
  size_t packed_bytes() const {
    return scratch_room(amx::packed_elements(depth(), columns_), DType::bf16);
  }
  size_t room_bytes() const override {
    return packed_bytes() + scratch_room(thin() * depth(), DType::bf16);
  }

  void chunk(const void* left, const void* right, int64_t k, float* sums,
             std::byte* room) const override {
    auto* packed = reinterpret_cast<bf16*>(room);
    auto* rows = reinterpret_cast<bf16*>(room + packed_bytes());
    const auto* numbers = static_cast<const bf16*>(right);
    amx::transpose_a({static_cast<const bf16*>(left), thin()}, thin(), k, rows, depth());
    amx::Tiles tiles;
    for (int64_t j = 0; j < wide(); j += columns_) {
      const int64_t n = std::min(columns_, wide() - j);
      amx::pack_b(amx::Rows{numbers + j, wide()}, Transpose::no, k, n, packed);
      amx::multiply(tiles, thin(), n, {k, {rows, depth()}, packed}, sums + j, stride(),
                    Store::assign);
    }
  }

  int64_t columns_;
};

}  // namespace

std::unique_ptr<Product> amx_thin_gradient(const ProductShape& s) {
  return std::make_unique<AmxThinGradient>(s);
}

}  // namespace mora::cpu
