// The overloads of field() only pack a declaration; what happens with it is the visitor's.
#include "mora/config/field.hpp"

namespace mora {

void Fields::field(std::string_view name, int64_t& value, IntRange range, std::string_view doc) {
  visit({.name = name, .value = &value, .doc = doc, .ints = range});
}

void Fields::field(std::string_view name, double& value, RealRange range, std::string_view doc) {
  visit({.name = name, .value = &value, .doc = doc, .reals = range});
}

void Fields::field(std::string_view name, bool& value, std::string_view doc) {
  visit({.name = name, .value = &value, .doc = doc});
}

void Fields::field(std::string_view name, std::string& value, std::string_view doc,
                   Presence presence) {
  visit({.name = name, .value = &value, .doc = doc, .presence = presence});
}

void Fields::field(std::string_view name, std::filesystem::path& value, std::string_view doc,
                   Presence presence) {
  visit({.name = name, .value = &value, .doc = doc, .presence = presence});
}

void Fields::field(std::string_view name, std::vector<int64_t>& value, IntRange range,
                   std::string_view doc) {
  visit({.name = name, .value = &value, .doc = doc, .ints = range});
}

void Fields::field(std::string_view name, std::vector<std::string>& value, std::string_view doc,
                   Presence presence) {
  visit({.name = name, .value = &value, .doc = doc, .presence = presence});
}

void Fields::field(std::string_view name, std::vector<std::filesystem::path>& value,
                   std::string_view doc, Presence presence) {
  visit({.name = name, .value = &value, .doc = doc, .presence = presence});
}

void Fields::choice(std::string_view name, std::string& value,
                    std::initializer_list<std::string> allowed, std::string_view doc,
                    Presence presence) {
  visit({.name = name, .value = &value, .doc = doc, .presence = presence, .choices = allowed});
}

}  // namespace mora
