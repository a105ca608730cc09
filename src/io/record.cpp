#include "mora/io/record.hpp"

#include "io/json.hpp"

namespace mora {

namespace {

Json to_json(const MetricValue& value) {
  if (const auto* number = std::get_if<double>(&value)) return json_number(*number);
  if (const auto* integer = std::get_if<int64_t>(&value)) return *integer;
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  Json list = Json::array();
  for (const double number : std::get<std::vector<double>>(value))
    list.push_back(json_number(number));
  return list;
}

}  // namespace

std::string to_json_line(const Record& record) {
  Json json = Json::object();
  for (const auto& [name, value] : record) json[name] = to_json(value);
  return dump_json(json);
}

}  // namespace mora
