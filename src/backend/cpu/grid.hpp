// How a product is divided into tasks.
#pragma once

#include <limits>

#include "backend/cpu/panel_fill.hpp"
#include "backend/cpu/pieces.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

// Rows and columns of C that are one task.
struct Grid {
  int64_t rows, columns;
};

// In multiplications: reading or packing a number of A or of B, and waking threads.
struct GridCosts {
  int64_t a, b, threads;
};

// The same with the rows of a fill as part of reading A's.
inline GridCosts costs_with(const FillNeeds& fill, int64_t k, GridCosts costs) {
  costs.a += pieces(fill.multiplications + fill.numbers * costs.a, k);
  return costs;
}

// The grid whose tasks end first, cut at multiples of `step`. Each task packs what it reads, so
// that no thread waits for another or fetches what another has just written; few large ones pack
// least.
inline Grid make_grid(int64_t m, int64_t k, int64_t n, const Grid& step, const GridCosts& costs) {
  const int64_t threads = thread_count();
  Grid best{m, n};
  int64_t least = std::numeric_limits<int64_t>::max();
  for (int64_t across = 1; across <= threads; ++across) {
    for (int64_t down = 1; down <= pieces(2 * threads, across); ++down) {
      const Grid grid{piece(m, pieces(m, down), step.rows),
                      piece(n, pieces(n, across), step.columns)};
      const int64_t tasks = pieces(m, grid.rows) * pieces(n, grid.columns),
                    task = k * (grid.rows * (grid.columns + costs.a) + grid.columns * costs.b),
                    cost = pieces(tasks, threads) * task + (tasks > 1 ? costs.threads : 0);
      if (cost < least) best = grid, least = cost;
    }
  }
  return best;
}

}  // namespace mora::cpu
