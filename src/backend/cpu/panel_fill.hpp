// What a product C[m, n] is added to, made panel by panel just before the product comes to it: it
// goes through no memory of its own, and C is not read once more.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mora::cpu {

// Rows and columns of C.
struct Panel {
  int64_t row, rows, column, columns;
};

class PanelFill {
 public:
  virtual ~PanelFill() = default;
  // Writes the panel, on one thread; `room` has FillNeeds::room_bytes.
  virtual void fill(const Panel& panel, std::byte* room) const = 0;
};
// How many columns are made at once: some that are multiplied together, or all of a task, as some
// would take as long.
enum class FillColumns : uint8_t { some, all };
struct FillNeeds {
  size_t room_bytes;
  int64_t numbers,
      multiplications;  // a row of C: what is read and written on the way, and products
  FillColumns columns;
};

// Of a task with columns [column, end_column): which of them are filled when a chunk of them is
// due.
struct FillPlace {
  FillColumns columns;
  int64_t column, end_column;

  bool is_due(int64_t chunk) const { return columns == FillColumns::some || chunk == column; }
  Panel panel(int64_t row, int64_t rows, int64_t chunk, int64_t n) const {
    if (columns == FillColumns::some) return {row, rows, chunk, n};
    return {row, rows, column, end_column - column};
  }
};

}  // namespace mora::cpu
