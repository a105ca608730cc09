// Rows are read and converted in pieces of about a million values, each row by one thread.
#include "mora/io/tensor_rows.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "io/system.hpp"
#include "mora/core/parallel.hpp"
#include "mora/io/text.hpp"

namespace mora {

namespace {

constexpr int64_t kPiece = 1 << 20;  // values

std::string where(const std::filesystem::path& file, const std::string& tensor) {
  return str(shown(file), ": tensor \"", printable(tensor), "\"");
}

int64_t rows_in(const std::vector<int64_t>& shape) {
  int64_t rows = 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i) rows *= shape[i];
  return rows;
}

}  // namespace

TensorRows rows_of(const GgufFile& file, const std::string& name) {
  file.require_readable(name);
  const GgufTensor& tensor = file.tensor(name);
  return {.name = where(file.path(), name),
          .rows = rows_in(tensor.shape),
          .row = tensor.row(),
          .read = [&file, &tensor](int64_t row, std::span<float> into) {
            file.read_row(tensor, row, into);
          }};
}

TensorRows rows_of(const SafetensorsFile& file, const std::string& name) {
  const TensorInfo& info = file.info(name);
  const int64_t row = info.shape.empty() ? 1 : info.shape.back();
  TensorRows rows{
      .name = where(file.path(), name), .rows = rows_in(info.shape), .row = row, .read = {}};
  const std::span<const std::byte> data = file.bytes(name);
  if (info.dtype == "F64") {
    rows.read = [data](int64_t index, std::span<float> into) {
      const std::byte* from =
          data.data() + static_cast<size_t>(index) * into.size() * sizeof(double);
      for (float& value : into) {
        double wide;
        std::memcpy(&wide, from, sizeof wide);  // which need not be aligned
        value = static_cast<float>(wide);
        from += sizeof wide;
      }
    };
    return rows;
  }
  if (info.dtype != "F32" && info.dtype != "F16" && info.dtype != "BF16") {
    fail(ErrorKind::data, rows.name, " is ", info, ", expected F32, F16, BF16 or F64");
  }
  const GgmlType& type = ggml_type(info.dtype);
  const size_t bytes = type.bytes(static_cast<uint64_t>(row));
  rows.read = [data, &type, bytes](int64_t index, std::span<float> into) {
    dequantize(type, data.subspan(static_cast<size_t>(index) * bytes, bytes), into);
  };
  return rows;
}

TensorRows rows_of(std::string name, const Tensor& tensor) {
  const std::vector<int64_t> shape(tensor.shape().dims().begin(), tensor.shape().dims().end());
  const int64_t row = shape.empty() ? 1 : shape.back();
  return {.name = std::move(name),
          .rows = rows_in(shape),
          .row = row,
          .read = [tensor, row](int64_t index, std::span<float> into) {
            auto* first = static_cast<std::byte*>(tensor.data) +
                          static_cast<size_t>(index * row) * size_of(tensor.dtype());
            convert({first, {tensor.dtype(), {row}}}, {into.data(), {DType::f32, {row}}});
          }};
}

TensorRows reordered(TensorRows rows, std::function<int64_t(int64_t)> order) {
  rows.read = [read = std::move(rows.read), order = std::move(order)](
                  int64_t row, std::span<float> into) { read(order(row), into); };
  return rows;
}

void write_rows(const TensorRows& rows, const GgmlType& to, const ByteSink& sink) {
  if (rows.row == 0) return;
  const auto row = static_cast<size_t>(rows.row);
  const int64_t together =
      std::clamp<int64_t>(kPiece / rows.row, 1, std::max<int64_t>(rows.rows, 1));
  const size_t row_bytes = to.bytes(row);
  std::vector<float> values(static_cast<size_t>(together) * row);
  std::vector<std::byte> bytes(static_cast<size_t>(together) * row_bytes);
  for (int64_t first = 0; first < rows.rows; first += together) {
    const int64_t count = std::min(together, rows.rows - first);
    std::atomic<bool> fine = true;
    parallel_for(count, [&](int64_t i) {
      const auto at = static_cast<size_t>(i);
      const std::span<float> piece = std::span(values).subspan(at * row, row);
      rows.read(first + i, piece);
      if (!quantize(to, piece, std::span(bytes).subspan(at * row_bytes, row_bytes))) fine = false;
    });
    if (!fine) fail(ErrorKind::data, rows.name, " holds a value that ", to, " cannot hold");
    sink(std::span(bytes).first(static_cast<size_t>(count) * row_bytes));
  }
}

}  // namespace mora
