// Pairs of characters that stand side by side in some piece of a vocabulary. Where a text has a
// pair that is none of them, no merge can reach across, so the parts can be encoded one by one.
#pragma once

#include <bitset>
#include <cstdint>
#include <unordered_set>

namespace mora {

class Joints {
 public:
  void add(char32_t left, char32_t right) {
    if (left < 128 && right < 128) {
      ascii_.set(left * 128 + right);
    } else {
      others_.insert(key(left, right));
    }
  }

  bool has(char32_t left, char32_t right) const {
    if (left < 128 && right < 128) return ascii_[left * 128 + right];
    return others_.count(key(left, right)) > 0;
  }

 private:
  static uint64_t key(char32_t left, char32_t right) {
    return static_cast<uint64_t>(left) << 32 | right;
  }

  std::bitset<128 * 128> ascii_;
  std::unordered_set<uint64_t> others_;
};

}  // namespace mora
