// Built without oneDNN: every product falls to Eigen.
#include "backend/cpu/product.hpp"

namespace mora {

bool has_onednn() {
  return false;
}

bool multiplies_bf16() {
  return false;
}

namespace cpu {
std::unique_ptr<Product> onednn_product(const ProductShape&) {
  return nullptr;
}
std::unique_ptr<BlockProduct> onednn_block_product(const ProductShape&, int64_t) {
  return nullptr;
}
}  // namespace cpu

}  // namespace mora
