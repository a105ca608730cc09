#include "mora/benchmarks/run.hpp"
#include "mora/io/text.hpp"
#include "mora/text/chat_template.hpp"
#include "text/template_strings.hpp"

namespace mora {

Continuation encode_pair(const Tokenizer& tokenizer, std::string_view context,
                         std::string_view continuation) {
  const std::string whole = str(context, continuation);
  context = jinja::strip(context, jinja::Side::right);
  Continuation result;
  result.context = encode_prompt(tokenizer, context, PromptKind::formatted);
  const std::vector<int32_t> tokens = encode_prompt(tokenizer, whole, PromptKind::formatted);
  const size_t before = std::min(result.context.size(), tokens.size());
  result.continuation.assign(tokens.begin() + static_cast<std::ptrdiff_t>(before), tokens.end());
  if (result.continuation.empty()) {
    fail(ErrorKind::data, "the answer \"", printable(continuation, 60),
         "\" has no tokens behind \"",
         printable(context.substr(context.size() - std::min<size_t>(context.size(), 60))), '"');
  }
  if (result.context.empty()) {
    const std::optional<int32_t> first = tokenizer.bos() ? tokenizer.bos() : tokenizer.eos();
    if (!first) fail(ErrorKind::data, "a prompt is empty, and the tokenizer has no BOS or EOS");
    result.context.push_back(*first);
  }
  return result;
}

}  // namespace mora
