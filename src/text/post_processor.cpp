// The template of one sequence; the one of pairs is for tasks that are not ours.
#include "text/post_processor.hpp"

namespace mora {
namespace {

std::vector<int32_t> ids_of(const JsonView& special_tokens, const std::string& name) {
  std::vector<int32_t> ids;
  for (const JsonView& item : special_tokens.at(name).at("ids").items()) {
    const int64_t id = item.integer();
    if (id < 0 || id >= INT32_MAX) item.wrong_type("a token's id");
    ids.push_back(static_cast<int32_t>(id));
  }
  return ids;
}

}  // namespace

PostProcessor::PostProcessor(const JsonView& json) {
  for (const JsonView& component : flattened(json, "processors")) {
    const std::string type = component_type(component);
    if (type == "TemplateProcessing") {
      add_template(component);
    } else if (type == "ByteLevel") {
      check_keys(component, {"add_prefix_space", "trim_offsets", "use_regex"});
    } else {
      refuse_type(component, "post-processor", "TemplateProcessing, ByteLevel and Sequence");
    }
  }
}

void PostProcessor::add_template(const JsonView& json) {
  check_keys(json, {"single", "pair", "special_tokens"});
  std::vector<int32_t> before, after;
  int sequences = 0;
  for (const JsonView& item : json.at("single").items()) {
    check_keys(item, {"Sequence", "SpecialToken"});
    if (item.has("Sequence")) {
      ++sequences;
      continue;
    }
    const auto ids = ids_of(json.at("special_tokens"), item.at("SpecialToken").at("id").string());
    std::vector<int32_t>& side = sequences == 0 ? before : after;
    side.insert(side.end(), ids.begin(), ids.end());
  }
  if (sequences != 1) json.at("single").wrong("expected the sequence once");
  before_.insert(before_.begin(), before.begin(), before.end());
  after_.insert(after_.end(), after.begin(), after.end());
}

}  // namespace mora
