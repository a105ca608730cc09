// Built from sorted texts: a node is a range of texts that begin alike. All the texts together are
// less than 4 GB, since the file that they stand in is.
#include "text/piece_trie.hpp"

#include <algorithm>

namespace mora {

PieceTrie::PieceTrie(std::vector<std::pair<std::string_view, int32_t>> texts) {
  if (texts.empty()) return;
  std::sort(texts.begin(), texts.end());
  struct Range {
    size_t begin, end;
  };
  std::vector<Range> level = {{0, texts.size()}}, deeper;
  labels_.push_back('\0');  // the root's
  ids_.push_back(-1);
  for (size_t depth = 0; !level.empty(); ++depth) {
    deeper.clear();
    for (auto [at, end] : level) {
      children_.push_back(static_cast<uint32_t>(labels_.size()));
      while (at < end && texts[at].first.size() == depth) ++at;  // the node's own text
      while (at < end) {
        const size_t begin = at;
        const char label = texts[begin].first[depth];
        while (at < end && texts[at].first[depth] == label) ++at;
        labels_.push_back(label);
        ids_.push_back(texts[begin].first.size() == depth + 1 ? texts[begin].second : -1);
        deeper.push_back({begin, at});
      }
    }
    level.swap(deeper);
  }
  children_.push_back(static_cast<uint32_t>(labels_.size()));
}

size_t PieceTrie::longest(std::string_view rest) const {
  if (empty()) return 0;
  size_t length = 0;
  uint32_t node = kRoot;
  for (size_t i = 0; i < rest.size(); ++i) {
    node = next(node, rest[i]);
    if (node == kNowhere) break;
    if (ids_[node] >= 0) length = i + 1;
  }
  return length;
}

}  // namespace mora
