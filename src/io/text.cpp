// Decodes UTF-8 strictly; printable() is the only way by which foreign bytes reach a message.
#include "mora/io/text.hpp"

#include <array>
#include <cstdint>

namespace mora {

namespace {

// Length of the valid sequence at the front of `text`, 0 if there is none.
size_t sequence_length(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  const uint8_t next = byte(1);
  const bool overlong = (lead == 0xE0 && next < 0xA0) || (lead == 0xF0 && next < 0x90);
  const bool surrogate = lead == 0xED && next > 0x9F;
  const bool too_large = lead == 0xF4 && next > 0x8F;
  return overlong || surrogate || too_large ? 0 : length;
}

void append_escaped(std::string& out, std::string_view bytes) {
  static constexpr std::string_view kDigits = "0123456789abcdef";
  for (char c : bytes) {
    const auto b = static_cast<uint8_t>(c);
    if (c == '\n') {
      out += "\\n";
    } else if (c == '\t') {
      out += "\\t";
    } else if (c == '\r') {
      out += "\\r";
    } else {
      out += {'\\', 'x', kDigits[b >> 4], kDigits[b & 15]};
    }
  }
}

}  // namespace

size_t valid_utf8_bytes(std::string_view bytes) {
  size_t valid = 0;
  while (valid < bytes.size()) {
    const size_t length = sequence_length(bytes.substr(valid));
    if (length == 0) break;
    valid += length;
  }
  return valid;
}

bool is_valid_utf8(std::string_view bytes) {
  return valid_utf8_bytes(bytes) == bytes.size();
}

std::string printable(std::string_view text, size_t max_bytes) {
  std::string out;
  while (!text.empty()) {
    const size_t length = sequence_length(text);
    const auto first = static_cast<uint8_t>(text[0]);
    const bool c0 = length == 1 && (first < 0x20 || first == 0x7F);
    const bool c1 = length == 2 && first == 0xC2 && static_cast<uint8_t>(text[1]) < 0xA0;
    const std::string_view sequence = text.substr(0, length == 0 ? 1 : length);
    if (out.size() + sequence.size() > max_bytes) return out + "...";
    if (length == 0 || c0 || c1) {
      append_escaped(out, sequence);
    } else {
      out += sequence;
    }
    text.remove_prefix(sequence.size());
  }
  return out;
}

bool counts_before(std::string_view a, std::string_view b) {
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  size_t i = 0, j = 0;
  while (i < a.size() && j < b.size()) {
    size_t end_a = i, end_b = j;
    while (end_a < a.size() && digit(a[end_a])) ++end_a;
    while (end_b < b.size() && digit(b[end_b])) ++end_b;
    if (end_a == i || end_b == j) {
      if (a[i] != b[j]) return a[i] < b[j];
      ++i, ++j;
      continue;
    }
    const std::string_view m = a.substr(i, end_a - i), n = b.substr(j, end_b - j);
    if (m != n) return m.size() != n.size() ? m.size() < n.size() : m < n;
    i = end_a, j = end_b;
  }
  return a.size() - i < b.size() - j;
}

}  // namespace mora
