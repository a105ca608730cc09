// The report is one JSON document; the tables show what is in it.
#include "mora/report/inspect.hpp"

#include <algorithm>
#include <cstdio>

#include "io/json.hpp"
#include "mora/core/error.hpp"
#include "mora/io/text.hpp"
#include "report/table.hpp"
#include "report/updates.hpp"

namespace mora {

namespace {

using Rows = std::vector<std::vector<std::string>>;

std::string number(double value) {
  return mora::number(value, "%.4g");
}

std::string number(const Json& value) {
  if (value.is_null()) return "-";
  return value.is_string() ? value.get<std::string>() : number(value.get<double>());
}

std::string shape_text(const Json& shape) {
  std::string text;
  for (const Json& n : shape) text += str(text.empty() ? "" : " x ", n.get<int64_t>());
  return text.empty() ? "1" : text;
}

// ---- The document.

// "q_proj" of "model.layers.0.self_attn.q_proj.weight", "q_proj.lora_A" of an adapter's.
std::string kind_of(const ContentTensor& t) {
  if (t.of_optimizer) return "optimizer";
  const std::string module = module_of_tensor(t.name);
  for (const std::string_view part : {".lora_A", ".lora_B", ".lora_magnitude_vector"}) {
    if (module.ends_with(part))
      return module_type(module.substr(0, module.size() - part.size())) + std::string(part);
  }
  return module_type(module);
}

Json tensors_json(const Contents& contents) {
  Json tensors = Json::array();
  for (const ContentTensor& t : contents.tensors()) {
    tensors.push_back({{"name", printable(t.name, 512)},
                       {"file", printable(t.file)},
                       {"kind", printable(kind_of(t))},
                       {"dtype", t.dtype},
                       {"shape", t.shape},
                       {"parameters", t.elements()},
                       {"bytes", t.bytes},
                       {"not_finite", t.not_finite()}});
  }
  return tensors;
}

// {key: sums over the tensors with that value of `key`}
Json totals_by(const std::string& key, const Json& tensors) {
  struct Sum {
    int64_t tensors = 0, parameters = 0, bytes = 0;
  };
  std::map<std::string, Sum> sums;
  for (const Json& t : tensors) {
    Sum& sum = sums[t.at(key).get<std::string>()];
    ++sum.tensors;
    sum.parameters += t.at("parameters").get<int64_t>();
    sum.bytes += t.at("bytes").get<int64_t>();
  }
  Json totals = Json::array();
  for (const auto& [value, sum] : sums) {
    totals.push_back({{key, value},
                      {"tensors", sum.tensors},
                      {"parameters", sum.parameters},
                      {"bytes", sum.bytes}});
  }
  return totals;
}

Json contents_json(const Contents& contents) {
  Json json;
  json["path"] = printable(contents.path().string(), 4096);
  json["kind"] = contents.kind();
  json["run"] = contents.run();
  json["files"] = contents.files();
  if (const std::string manifest = contents.manifest(); !manifest.empty())
    json["manifest"] = manifest;
  json["settings"] = contents.settings();
  json["tensors"] = tensors_json(contents);
  json["by_kind"] = totals_by("kind", json["tensors"]);
  json["by_dtype"] = totals_by("dtype", json["tensors"]);
  for (const char* key : {"parameters", "bytes"}) {
    int64_t sum = 0;
    for (const Json& t : json["tensors"]) sum += t.at(key).get<int64_t>();
    json[key] = sum;
  }
  return json;
}

constexpr const char* kFigures[] = {"above_threshold", "stable_rank",    "effective_rank",
                                    "spectral_norm",   "frobenius_norm", "relative_norm"};

Json update_json(const Update& u) {
  Json json = {{"module", printable(u.module, 512)},
               {"type", printable(module_type(u.module))},
               {"shape", {u.out, u.in}},
               {"finite", u.spectrum.has_value()}};
  if (!u.spectrum) return json;
  const Spectrum& s = *u.spectrum;
  json["above_threshold"] = s.above;
  json["stable_rank"] = s.stable_rank;
  json["effective_rank"] = s.effective_rank;
  json["spectral_norm"] = s.spectral;
  json["frobenius_norm"] = s.frobenius;
  json["base_norm"] = u.base ? Json(*u.base) : Json();
  json["relative_norm"] = u.base && *u.base > 0 ? json_number(s.frobenius / *u.base) : Json();
  json["singular_values"] = s.values;
  return json;
}

// The means over the layers of each type of module; of a figure, over those that have it.
Json means_by_type(const Json& updates) {
  struct Type {
    int64_t modules = 0;
    std::map<std::string, std::pair<double, int64_t>> sums;  // of each figure, and of how many
  };
  std::map<std::string, Type> types;
  for (const Json& u : updates) {
    Type& type = types[u.at("type").get<std::string>()];
    ++type.modules;
    for (const char* figure : kFigures) {
      if (!u.contains(figure) || !u.at(figure).is_number()) continue;
      type.sums[figure].first += u.at(figure).get<double>();
      ++type.sums[figure].second;
    }
  }
  Json means = Json::array();
  for (const auto& [name, type] : types) {
    Json mean = {{"type", name}, {"modules", type.modules}};
    for (const char* figure : kFigures) {
      const auto sum = type.sums.find(figure);
      mean[figure] = sum == type.sums.end()
                         ? Json()
                         : Json(sum->second.first / static_cast<double>(sum->second.second));
    }
    means.push_back(std::move(mean));
  }
  return means;
}

void add_updates(const std::vector<Update>& updates, double threshold, Json& report) {
  report["threshold"] = threshold;
  report["updates"] = Json::array();
  for (const Update& u : updates) report["updates"].push_back(update_json(u));
  report["updates_by_type"] = means_by_type(report["updates"]);
}

Json names_json(const std::vector<std::string>& names) {
  Json json = Json::array();
  for (const std::string& name : names) json.push_back(printable(name, 512));
  return json;
}

void add_change(const Contents& first, const Contents& second, double threshold, Json& report) {
  const PairUpdates pair = pair_updates(first, second, threshold);
  report["only_in_first"] = names_json(pair.only_first);
  report["only_in_second"] = names_json(pair.only_second);
  report["different_shape"] = names_json(pair.different_shape);
  report["not_compared"] = names_json(pair.not_read);
  report["other_changes"] = names_json(pair.changed_vectors);
  add_updates(pair.updates, threshold, report);
}

// From the model that a run began with to the one that it left.
void add_run(const Contents& left, double threshold, Json& report) {
  const Contents base(left.run_base());
  report["base"] = printable(base.path().string(), 4096);
  add_change(base, left, threshold, report);
}

void add_pair(const Contents& first, const InspectOptions& options, Json& report) {
  const Contents second(options.other);
  if (first.is_adapter() || second.is_adapter()) {
    fail(ErrorKind::usage, printable((first.is_adapter() ? first : second).path().string()),
         ": an adapter's matrices cannot be compared one by one; inspect it alone, or merge it "
         "(mora-convert merge) and compare the models");
  }
  report["second"] = contents_json(second);
  add_change(first, second, options.threshold, report);
}

void add_adapter(const Contents& contents, const InspectOptions& options, Json& report) {
  try {
    const AdapterUpdates found = adapter_updates(contents.path(), options.model, options.threshold);
    report["replaced"] = names_json(found.replaced);
    add_updates(found.updates, options.threshold, report);
  } catch (const Error& error) {
    // What stands in the files has been read; that this program cannot apply it is a finding. A
    // base that the user named must be right, though.
    if (!options.model.empty()) throw;
    report["updates_problem"] = error.what();
  }
}

// ---- The tables.

// The values that are no lists or objects, one a line.
std::string plain_values(const std::string& title, const Json& json) {
  std::string text;
  for (const auto& [key, value] : json.items()) {
    if (value.is_null() || value.is_structured()) continue;
    text += str(title, printable(key), " = ",
                printable(value.is_string() ? value.get<std::string>() : value.dump()), "\n");
  }
  return text;
}

std::string files_text(const Json& json) {
  Rows files = {{"file", "bytes", "SHA-256"}};
  std::string notes;
  for (const Json& f : json.at("files")) {
    const std::string name = f.at("name").get<std::string>();
    files.push_back({name, f.at("bytes").dump(), f.at("sha256").get<std::string>()});
    if (f.contains("metadata")) notes += plain_values(str(name, ": "), f.at("metadata"));
  }
  std::string text = aligned(files);
  if (json.contains("manifest")) text += str(json.at("manifest").get<std::string>(), "\n");
  notes += plain_values("settings: ", json.at("settings"));
  return notes.empty() ? text : str(text, "\n", notes);
}

std::string contents_text(const Json& json) {
  std::string text =
      str(json.at("path").get<std::string>(), ": ", json.at("kind").get<std::string>(), ", ",
          json.at("tensors").size(), " tensors, ", json.at("parameters"), " parameters, ",
          json.at("bytes"), " bytes\n");
  if (!json.at("run").is_null()) {
    text += str("of the run ", json.at("run").at("path").get<std::string>(), ", checkpoints:");
    for (const Json& name : json.at("run").at("checkpoints"))
      text += str(" ", name.get<std::string>());
    text += "\n";
  }
  text += str("\n", files_text(json));

  const auto bad = [](const Json& t) { return t.at("not_finite").get<int64_t>() > 0; };
  const bool any_bad = std::ranges::any_of(json.at("tensors"), bad);
  Rows tensors = {{"tensor", "type", "shape", "bytes"}};
  if (any_bad) tensors[0].emplace_back("NaN or infinite");
  for (const Json& t : json.at("tensors")) {
    tensors.push_back({t.at("name").get<std::string>(), t.at("dtype").get<std::string>(),
                       shape_text(t.at("shape")), t.at("bytes").dump()});
    if (any_bad) tensors.back().push_back(t.at("not_finite").dump());
  }
  text += str("\n", aligned(tensors));
  for (const char* key : {"kind", "dtype"}) {
    Rows totals = {{key, "tensors", "parameters", "bytes"}};
    for (const Json& t : json.at(str("by_", key))) {
      totals.push_back({t.at(key).get<std::string>(), t.at("tensors").dump(),
                        t.at("parameters").dump(), t.at("bytes").dump()});
    }
    text += str("\n", aligned(totals));
  }
  return text;
}

std::string largest_values(const Json& update, int64_t top) {
  std::string text;
  const Json& values = update.at("singular_values");
  for (size_t i = 0; i < std::min(values.size(), static_cast<size_t>(top)); ++i)
    text += str(text.empty() ? "" : " ", number(values[i]));
  return text;
}

std::string updates_text(const Json& report, int64_t top) {
  const std::vector<std::string> titles = {str("> ", number(report.at("threshold").get<double>())),
                                           "stable rank",
                                           "effective rank",
                                           "spectral norm",
                                           "Frobenius norm",
                                           "of base"};
  const auto figures_of = [&](const Json& json, std::vector<std::string> row) {
    for (const char* figure : kFigures)
      row.push_back(json.contains(figure) ? number(json.at(figure)) : "-");
    return row;
  };
  Rows updates = {{"update of", "shape"}}, types = {{"mean of", "modules"}};
  for (Rows* rows : {&updates, &types})
    rows->front().insert(rows->front().end(), titles.begin(), titles.end());
  if (top > 0) updates[0].emplace_back("largest singular values");
  for (const Json& u : report.at("updates")) {
    const bool finite = u.at("finite").get<bool>();
    updates.push_back(
        figures_of(u, {u.at("module").get<std::string>(), shape_text(u.at("shape"))}));
    if (top > 0) updates.back().push_back(finite ? largest_values(u, top) : "not finite");
  }
  for (const Json& t : report.at("updates_by_type"))
    types.push_back(figures_of(t, {t.at("type").get<std::string>(), t.at("modules").dump()}));
  return str("\n", aligned(updates), "\n", aligned(types));
}

std::string report_text(const Json& report, int64_t top) {
  std::string text = contents_text(report);
  if (report.contains("second")) text += str("\n", contents_text(report.at("second")));
  if (report.contains("base"))
    text += str("\nupdates since ", report.at("base").get<std::string>(), "\n");
  const std::pair<const char*, const char*> lists[] = {
      {"only_in_first", "only in the first"},
      {"only_in_second", "only in the second"},
      {"different_shape", "of another shape"},
      {"not_compared", "of a type that is not compared"},
      {"other_changes", "no matrix, and changed"},
      {"replaced", "whole tensors in place of the base's"}};
  for (const auto& [key, title] : lists) {
    if (!report.contains(key) || report.at(key).empty()) continue;
    text += str("\n", title, ":");
    for (const Json& name : report.at(key)) text += str(" ", name.get<std::string>());
    text += "\n";
  }
  if (report.contains("updates")) text += updates_text(report, top);
  if (report.contains("updates_problem")) {
    text += str("\nno singular values of the updates: ",
                report.at("updates_problem").get<std::string>(), "\n");
  }
  return text;
}

}  // namespace

Inspection inspect(const InspectOptions& options) {
  const Contents contents(options.path);
  Json report = contents_json(contents);
  if (!options.other.empty()) {
    add_pair(contents, options, report);
  } else if (contents.is_adapter()) {
    add_adapter(contents, options, report);
  } else if (!contents.run_base().empty()) {
    add_run(contents, options.threshold, report);
  }
  return {.text = report_text(report, options.top), .json = dump_json(report, 1) + "\n"};
}

}  // namespace mora
