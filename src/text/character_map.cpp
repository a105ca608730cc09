// A 32-bit size of the trie in bytes, the trie's units of 32 bits, and texts that end with NUL; all
// little-endian. The trie is a double array of Darts-clone (github.com/s-yata/darts-clone, the
// header darts.h): from the unit at i, the byte b leads to the unit at i ^ offset ^ b if that has b
// as its label; if it has a leaf, the unit at its own place ^ offset holds where a text begins.
#include "text/character_map.hpp"

#include <algorithm>

#include "mora/core/error.hpp"
#include "mora/io/text.hpp"

namespace mora {
namespace {

constexpr size_t kMaxUnits = size_t{1} << 20;  // NFKC has 60,000
constexpr size_t kMaxTextBytes = 256;
constexpr size_t kMaxNested = 32;  // kMaxTrieResultsSize of the library

bool is_leaf(uint32_t unit) {
  return unit >> 31 != 0;
}
uint32_t leaf_value(uint32_t unit) {
  return unit & 0x7FFFFFFF;
}
bool leads_by(uint32_t unit, uint32_t label) {
  return (unit & 0x800000FF) == label;
}
bool has_leaf(uint32_t unit) {
  return (unit >> 8 & 1) != 0;
}
uint32_t offset_of(uint32_t unit) {
  return unit >> 10 << ((unit & 1u << 9) >> 6);
}

// Walks all that can be reached from the root; texts may share their ends, so what lies below a
// unit is remembered.
class TrieCheck {
 public:
  TrieCheck(const std::vector<uint32_t>& units, std::string_view texts, const std::string& what)
      : units_(units), texts_(texts), what_(what), below_(units.size(), kUnseen) {}

  void run() {
    check_units();
    enter(0);
    while (!path_.empty()) {
      Step& step = path_.back();
      if (step.label == 256) {
        leave();
        continue;
      }
      const uint32_t label = step.label++;
      const uint32_t child = step.base ^ label;
      if (!leads_by(units_[child], label)) continue;
      if (below_[child] == kOnPath) reject("whose trie leads back into itself");
      if (below_[child] == kUnseen) {
        enter(child);
      } else {
        count(below_[child], child);
      }
    }
  }

 private:
  static constexpr uint8_t kUnseen = 255, kOnPath = 254;

  struct Step {
    uint32_t unit, base, label;
    uint8_t nested;  // the most rules on a way down from here
  };

  [[noreturn]] void reject(std::string_view problem) const {
    fail(ErrorKind::data, what_, "; a character map ", problem);
  }

  void check_units() const {
    for (size_t i = 0; i < units_.size(); ++i) {
      if (is_leaf(units_[i])) {
        if (leaf_value(units_[i]) >= texts_.size()) reject("with a text outside the map");
      } else if (((i ^ offset_of(units_[i])) | 0xFF) >= units_.size()) {
        reject("whose trie leads out of itself");
      }
    }
    if (is_leaf(units_[0])) reject("whose trie has no root");
  }

  void enter(uint32_t unit) {
    below_[unit] = kOnPath;
    const uint32_t base = unit ^ offset_of(units_[unit]);
    path_.push_back({unit, base, 0, 0});
    if (unit != 0 && has_leaf(units_[unit])) check_text(units_[base]);
  }

  void leave() {
    const Step step = path_.back();
    path_.pop_back();
    below_[step.unit] = step.nested;
    if (!path_.empty()) count(step.nested, step.unit);
  }

  void count(uint8_t below, uint32_t child) {
    const auto nested = static_cast<uint8_t>(below + (has_leaf(units_[child]) ? 1 : 0));
    if (nested > kMaxNested) reject(str("with more than ", kMaxNested, " rules that begin alike"));
    path_.back().nested = std::max(path_.back().nested, nested);
  }

  void check_text(uint32_t leaf) const {
    if (!is_leaf(leaf)) reject("with a rule without a text");
    std::string_view text = texts_.substr(leaf_value(leaf));
    text = text.substr(0, std::min(text.find('\0'), kMaxTextBytes + 1));
    if (text.size() > kMaxTextBytes) {
      reject(str("with a text of more than ", kMaxTextBytes, " bytes"));
    }
    if (!is_valid_utf8(text)) reject("with a text that is not UTF-8");
  }

  const std::vector<uint32_t>& units_;
  std::string_view texts_;
  const std::string& what_;
  std::vector<uint8_t> below_;
  std::vector<Step> path_;
};

}  // namespace

CharacterMap::CharacterMap(std::string_view bytes, const std::string& what) {
  if (bytes.empty()) return;
  const auto unit = [&](size_t i) {
    uint32_t value = 0;
    for (size_t k = 4; k-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes[4 * i + k]);
    return value;
  };
  const auto reject = [&](std::string_view problem) {
    fail(ErrorKind::data, what, "; a character map ", problem);
  };
  if (bytes.size() < 4 || unit(0) > bytes.size() - 4 || unit(0) % 4 != 0) {
    reject("whose trie is larger than the map");
  }
  const size_t count = unit(0) / 4;
  texts_ = bytes.substr(4 + unit(0));
  if (count == 0 || texts_.empty() || texts_.back() != '\0') {
    reject("without a trie or without texts");
  }
  if (count > kMaxUnits) reject(str("of ", count, " units; at most ", kMaxUnits, " are allowed"));
  for (size_t i = 1; i <= count; ++i) units_.push_back(unit(i));
  TrieCheck(units_, texts_, what).run();
}

CharacterMap::Match CharacterMap::longest(std::string_view rest) const {
  Match match;
  if (units_.empty()) return match;
  uint32_t base = offset_of(units_[0]);
  for (size_t i = 0; i < rest.size(); ++i) {
    const auto label = static_cast<uint8_t>(rest[i]);
    const uint32_t at = base ^ label;
    if (!leads_by(units_[at], label)) break;
    base = at ^ offset_of(units_[at]);
    if (has_leaf(units_[at])) match = {i + 1, &texts_[leaf_value(units_[base])]};
  }
  return match;
}

}  // namespace mora
