// Generated lines of varied text: code, digits, scripts, emoji, combining marks, control
// characters, runs of spaces, added tokens inside words. A line depends on its seed alone;
// tests/golden/make_tokenizer_goldens.py makes the same lines.
#pragma once

#include <doctest/doctest.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "mora/core/error.hpp"
#include "temporary_folder.hpp"
#include "text/unicode.hpp"

namespace mora::testing {

class TextLines {
 public:
  // A fragments.json, which says what lines are made of.
  explicit TextLines(const std::filesystem::path& file) {
    for (const auto& json : nlohmann::json::parse(bytes_of(file))) {
      Fragment fragment{json.at("times")[0], json.at("times")[1], {}, {}};
      if (json.contains("choices")) {
        fragment.choices = json.at("choices").get<std::vector<std::string>>();
      } else {
        fragment.ranges = json.at("ranges").get<std::vector<std::pair<uint32_t, uint32_t>>>();
      }
      fragments_.push_back(std::move(fragment));
    }
    REQUIRE(!fragments_.empty());
  }

  std::string line(uint64_t seed) const {
    SplitMix random{seed};
    std::string text;
    const uint64_t count = 1 + random.below(10);
    for (uint64_t i = 0; i < count; ++i) {
      const Fragment& fragment = fragments_[random.below(fragments_.size())];
      const uint64_t times = fragment.low + random.below(fragment.high - fragment.low + 1);
      const std::pair<uint32_t, uint32_t> range =
          fragment.ranges.empty() ? std::pair<uint32_t, uint32_t>()
                                  : fragment.ranges[random.below(fragment.ranges.size())];
      for (uint64_t k = 0; k < times; ++k) {
        if (fragment.ranges.empty()) {
          text += fragment.choices[random.below(fragment.choices.size())];
        } else {
          const uint64_t offset = random.below(range.second - range.first + 1);
          append_utf8(text, static_cast<char32_t>(range.first + offset));
        }
      }
    }
    return text;
  }

 private:
  struct Fragment {
    uint64_t low, high;  // how many times
    std::vector<std::string> choices;
    std::vector<std::pair<uint32_t, uint32_t>> ranges;
  };

  struct SplitMix {
    uint64_t state;

    uint64_t below(uint64_t n) {
      state += 0x9E3779B97F4A7C15u;
      uint64_t z = state;
      z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
      z = (z ^ z >> 27) * 0x94D049BB133111EBu;
      return (z ^ z >> 31) % n;
    }
  };

  std::vector<Fragment> fragments_;
};

}  // namespace mora::testing
