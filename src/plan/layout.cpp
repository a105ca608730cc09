// Memory offsets for blocks with lifetimes.
#include <algorithm>
#include <numeric>

#include "plan/schedule.hpp"

namespace mora::plan {

namespace {

constexpr size_t kAlign = 64;

size_t rounded(size_t bytes) {
  return (bytes + kAlign - 1) / kAlign * kAlign;
}

bool meet(const Block& a, const Block& b) {
  return a.first <= b.last && b.first <= a.last;
}

// The lowest offset at which `block` fits among already placed blocks, given in order of offset.
size_t first_gap(const std::vector<Block*>& placed, const Block& block) {
  size_t offset = 0;
  for (const Block* other : placed) {
    if (!meet(*other, block)) continue;
    if (offset + rounded(block.bytes) <= other->offset) break;
    offset = std::max(offset, other->offset + rounded(other->bytes));
  }
  return offset;
}

}  // namespace

size_t lay_out(std::vector<Block>& blocks, Reuse memory) {
  std::vector<size_t> order(blocks.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return blocks[a].bytes > blocks[b].bytes; });
  size_t total = 0;
  std::vector<Block*> placed;
  for (size_t i : order) {
    Block& block = blocks[i];
    block.offset = memory == Reuse::yes ? first_gap(placed, block) : total;
    total = std::max(total, block.offset + rounded(block.bytes));
    const auto at =
        std::upper_bound(placed.begin(), placed.end(), &block,
                         [](const Block* a, const Block* b) { return a->offset < b->offset; });
    placed.insert(at, &block);
  }
  return total;
}

}  // namespace mora::plan
