// The post-processor of a tokenizer.json, as far as it says which tokens are put around a text.
#pragma once

#include <cstdint>
#include <vector>

#include "text/component.hpp"

namespace mora {

class PostProcessor {
 public:
  PostProcessor() = default;  // puts nothing around

  // TemplateProcessing, ByteLevel, Sequence; others are Error(data).
  explicit PostProcessor(const JsonView& json);

  const std::vector<int32_t>& before() const { return before_; }
  const std::vector<int32_t>& after() const { return after_; }

 private:
  void add_template(const JsonView& json);

  std::vector<int32_t> before_, after_;
};

}  // namespace mora
