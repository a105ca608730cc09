// The public face of the template engine, and where a model folder keeps its template.
#include "mora/text/chat_template.hpp"

#include <algorithm>
#include <ctime>

#include "io/json.hpp"
#include "mora/io/file.hpp"
#include "mora/io/text.hpp"
#include "text/template_renderer.hpp"

namespace mora {

namespace {

constexpr size_t kMaxTemplateBytes = size_t{1} << 20;
constexpr size_t kMaxConfigBytes = size_t{16} << 20;

jinja::Value content_value(jinja::Run& run, const Message& m) {
  if (m.parts.empty()) return jinja::make_text(run, m.content);
  std::vector<jinja::Value> parts;
  for (const ContentPart& p : m.parts)
    parts.push_back(jinja::make_dict(run, {{"type", p.type}, {"text", p.text}}));
  return jinja::make_list(run, std::move(parts));
}

std::tm local_time(std::optional<int64_t> seconds) {
  const std::time_t now = seconds ? static_cast<std::time_t>(*seconds) : std::time(nullptr);
  std::tm result{};
  if (!localtime_r(&now, &result)) fail(ErrorKind::usage, "the time ", now, " is not a date");
  return result;
}

}  // namespace

struct ChatTemplate::Impl {
  std::string name;
  std::vector<jinja::Statement> statements;
};

ChatTemplate::ChatTemplate(std::string_view source, std::string name) {
  if (source.size() > kMaxTemplateBytes)
    fail(ErrorKind::data, name, ": has ", source.size(), " bytes; at most ", kMaxTemplateBytes);
  if (!is_valid_utf8(source)) fail(ErrorKind::data, name, ": is not UTF-8 text");
  auto impl = std::make_shared<Impl>();
  impl->name = std::move(name);
  impl->statements = jinja::parse(source, impl->name);
  impl_ = std::move(impl);
}

RenderedChat ChatTemplate::render(std::span<const Message> messages,
                                  const ChatVariables& variables) const {
  jinja::Renderer::Scope scope;
  for (const auto& [name, text] : variables.tokens) scope[name] = text;
  scope["add_generation_prompt"] = variables.add_generation_prompt;
  scope["tools"] = jinja::Value();
  scope["documents"] = jinja::Value();
  jinja::Renderer renderer(impl_->name, std::move(scope), local_time(variables.time));
  std::vector<jinja::Value> list;
  for (const Message& m : messages) {
    list.push_back(jinja::make_dict(
        renderer.run(), {{"role", m.role}, {"content", content_value(renderer.run(), m)}}));
  }
  renderer.set("messages", jinja::make_list(renderer.run(), std::move(list)));
  jinja::Rendered rendered = renderer.render(impl_->statements);
  return {std::move(rendered.text), std::move(rendered.generated)};
}

ChatTemplate open_chat_template(const std::string& name_or_file) {
  const auto names = built_in_chat_templates();
  if (std::ranges::find(names, name_or_file) != names.end())
    return built_in_chat_template(name_or_file);
  std::error_code ignored;
  if (!std::filesystem::exists(name_or_file, ignored))
    return built_in_chat_template(name_or_file);  // says which names there are
  return {read_file(name_or_file, kMaxTemplateBytes), "chat template " + name_or_file};
}

namespace {

// The text in tokenizer_config.json, if there is one.
std::optional<std::string> configured_template(const JsonView& config) {
  if (!config.has("chat_template")) return {};
  const JsonView v = config.at("chat_template");
  if (!v.json().is_array()) return v.string();
  std::string names;
  for (const JsonView& item : v.items()) {
    const std::string name = item.at("name").string();
    if (name == "default") return item.at("template").string();
    names += (names.empty() ? "" : ", ") + printable(name, 60);
  }
  v.wrong(str("no template is named \"default\", only: ", names));
}

// A special token is a string, or an object with its content.
void read_tokens(const JsonView& config, std::map<std::string, std::string>& tokens) {
  for (const char* name : {"bos_token", "eos_token", "unk_token", "pad_token"}) {
    if (!config.has(name)) continue;
    const JsonView v = config.at(name);
    tokens[name] = v.json().is_object() ? v.at("content").string() : v.string();
  }
}

bool is_file(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

}  // namespace

ModelChat read_model_chat(const std::filesystem::path& folder, const Tokenizer& tokenizer,
                          UseTemplate use_template) {
  ModelChat chat;
  if (tokenizer.bos()) chat.tokens["bos_token"] = tokenizer.piece(*tokenizer.bos());
  if (tokenizer.eos()) chat.tokens["eos_token"] = tokenizer.piece(*tokenizer.eos());
  const auto config_file = folder / "tokenizer_config.json";
  const auto template_file = folder / "chat_template.jinja";
  std::optional<std::string> configured, separate;
  if (is_file(config_file)) {
    const Json json = parse_json(read_file(config_file, kMaxConfigBytes), config_file.string());
    const JsonView config(json, config_file.string());
    read_tokens(config, chat.tokens);
    if (use_template == UseTemplate::yes) configured = configured_template(config);
  }
  if (use_template == UseTemplate::yes && is_file(template_file))
    separate = read_file(template_file, kMaxTemplateBytes);
  if (configured && separate && *configured != *separate) {
    chat.warning = str(template_file.string(), " and chat_template in ", config_file.string(),
                       " differ; the first is used");
  }
  if (separate) {
    chat.chat_template.emplace(*separate, "chat template " + template_file.string());
  } else if (configured) {
    chat.chat_template.emplace(*configured, "chat template of " + config_file.string());
  }
  return chat;
}

std::vector<int32_t> encode_prompt(const Tokenizer& tokenizer, std::string_view text,
                                   PromptKind kind) {
  std::vector<int32_t> ids =
      kind == PromptKind::text ? tokenizer.encode(text) : tokenizer.encode_formatted(text);
  if (kind == PromptKind::rendered) return ids;
  const std::optional<int32_t> bos = tokenizer.bos();
  if (bos && tokenizer.adds_bos() && (ids.empty() || ids.front() != *bos))
    ids.insert(ids.begin(), *bos);
  return ids;
}

}  // namespace mora
