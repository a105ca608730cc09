// The table of records, in the order of ops.def.
#include "ops/define.hpp"

namespace mora {

const Op& op(OpId id) {
  static const std::array<const Op*, kOpCount> table = {
#define MORA_OP(name) &op_records::name,
#include "mora/ops/ops.def"
#undef MORA_OP
  };
  return *table[static_cast<size_t>(id)];
}

}  // namespace mora
