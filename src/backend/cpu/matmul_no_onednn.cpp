// Built without oneDNN: every product falls to Eigen.
#include "backend/cpu/product.hpp"

namespace mora {

bool has_onednn() {
  return false;
}

namespace cpu {
std::unique_ptr<Product> onednn_product(const ProductShape&) {
  return nullptr;
}
bool onednn_multiplies_bf16() {
  return false;
}
bool onednn_leaves_amx() {
  return true;
}
}  // namespace cpu

}  // namespace mora
