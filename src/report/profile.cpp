#include "mora/report/profile.hpp"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <vector>

#include "io/json.hpp"
#include "mora/autograd/grad.hpp"
#include "report/table.hpp"

namespace mora {

namespace {

// Removes the end from the scope, if that is how it ends.
bool strip(std::string_view& scope, std::string_view end) {
  if (!scope.ends_with(end)) return false;
  scope.remove_suffix(end.size());
  return true;
}

// "model.layers.3.mlp" as "model.layers.*.mlp".
std::string without_numbers(std::string_view scope) {
  std::string result;
  size_t begin = 0;
  while (begin <= scope.size()) {
    const size_t end = std::min(scope.find('.', begin), scope.size());
    const std::string_view part = scope.substr(begin, end - begin);
    const bool number =
        !part.empty() && std::ranges::all_of(part, [](unsigned char c) { return std::isdigit(c); });
    if (begin > 0) result += '.';
    result += number ? "*" : part;
    begin = end + 1;
  }
  return result;
}

double bytes_of(const StepRun& step) {
  size_t bytes = 0;
  for (const Tensor& t : step.out) bytes += t ? t.bytes() : 0;
  for (size_t i = 0; i < step.in.size(); ++i) {
    const bool written = (step.op.mutates >> i & 1u) != 0;
    bytes += step.in[i].bytes() * (written ? 2 : 1);
  }
  return static_cast<double>(bytes);
}

void count(Cost& cost, const StepRun& step) {
  ++cost.runs;
  cost.seconds += step.seconds;
  cost.bytes += bytes_of(step);
  if (step.op.flops != nullptr) cost.flops += step.op.flops(step.in, step.out, step.attrs);
}

std::string table(const char* title, const std::map<std::string, Cost>& costs) {
  std::vector<std::pair<std::string, Cost>> sorted(costs.begin(), costs.end());
  std::ranges::stable_sort(
      sorted, [](const auto& a, const auto& b) { return a.second.seconds > b.second.seconds; });
  double total = 0;
  for (const auto& [name, cost] : sorted) total += cost.seconds;
  std::vector<std::vector<std::string>> rows = {{title, "runs", "time %", "ms", "GFLOP/s", "GB/s"}};
  for (const auto& [name, cost] : sorted) {
    const double seconds = std::max(cost.seconds, 1e-12);
    rows.push_back({name, std::to_string(cost.runs), number(100 * cost.seconds / total, "%.1f"),
                    number(1e3 * cost.seconds, "%.1f"),
                    cost.flops > 0 ? number(cost.flops / seconds * 1e-9, "%.1f") : "-",
                    number(cost.bytes / seconds * 1e-9, "%.1f")});
  }
  return aligned(rows);
}

Json to_json(const std::map<std::string, Cost>& costs) {
  Json result = Json::object();
  for (const auto& [name, cost] : costs) {
    result[name] = {{"runs", cost.runs},
                    {"seconds", cost.seconds},
                    {"flops", cost.flops},
                    {"bytes", cost.bytes}};
  }
  return result;
}

}  // namespace

void Profile::add(const StepRun& step) {
  std::string_view scope = step.scope;
  std::string op(step.op.name);
  if (strip(scope, kRecomputedScope)) {
    op += " (again)";
  } else if (strip(scope, kGradScope) && !op.ends_with("_grad")) {
    op += " (grad)";  // one that the forward pass uses too
  }
  count(by_op_[op], step);
  count(by_module_[scope.empty() ? "(step)" : without_numbers(scope)], step);
}

std::string Profile::tables() const {
  return table("operation", by_op_) + "\n" + table("module", by_module_);
}

std::string Profile::to_json_text() const {
  return Json{{"ops", to_json(by_op_)}, {"modules", to_json(by_module_)}}.dump() + "\n";
}

}  // namespace mora
