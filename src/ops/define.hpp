// Shared by the files that define operations: the declarations of all records, and checks that read
// as sentences.
#pragma once

#include <vector>

#include "mora/ops/ops.hpp"

namespace mora {

namespace op_records {
#define MORA_OP(name) extern const Op name;
#include "mora/ops/ops.def"
#undef MORA_OP
}  // namespace op_records

inline bool is_float(DType dtype) {
  return dtype == DType::f32 || dtype == DType::f64;
}

template <class... Parts>
void check(bool holds, const Parts&... parts) {
  if (!holds) throw Error(ErrorKind::internal, str(parts...));
}

inline void check_count(std::span<const Type> in, size_t least, size_t most) {
  check(in.size() >= least && in.size() <= most, "takes ", least, " to ", most, " inputs, got ",
        in.size());
}

// What activations are stored in.
inline void check_activation(const Type& type, std::string_view what) {
  check(is_float(type.dtype) || type.dtype == DType::bf16, what, " must be f32, f64 or bf16, got ",
        type);
}

inline void check_working(const Type& type, std::string_view what) {
  check(is_float(type.dtype), what, " must be f32 or f64, got ", type);
}

inline void check_type(const Type& got, const Type& expected, std::string_view what) {
  check(got == expected, what, " must be ", expected, ", got ", got);
}

// One i32 number for each of `rows` rows.
inline void check_index(const Type& got, int64_t rows, std::string_view what) {
  check_type(got, {DType::i32, {rows}}, what);
}

template <class... Vars>
std::vector<Var> emit(const Op& op, const Attrs& attrs, Var first, Vars... rest) {
  ensure(first.graph != nullptr, op.name,
         ": an input is empty (a gradient that nothing depends on?)");
  return first.graph->emit(op, attrs, std::array{first, rest...});
}

}  // namespace mora
