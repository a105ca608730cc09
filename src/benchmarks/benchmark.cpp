#include "mora/benchmarks/benchmark.hpp"

#include <algorithm>

#include "benchmarks/statistics.hpp"

namespace mora {

std::vector<Measurement> Benchmark::summary(std::span<const Judgement> judgements) const {
  const std::vector<Question>& asked = questions();
  std::vector<std::string> groups = {""};
  for (const Question& q : asked) {
    if (std::ranges::find(groups, q.group) == groups.end()) groups.push_back(q.group);
  }
  if (groups.size() == 2) groups.pop_back();  // one group is the total
  std::vector<Measurement> result;
  const std::vector<std::string> names = measures();
  for (const std::string& group : groups) {
    for (size_t m = 0; m < names.size(); ++m) {
      std::vector<double> scores;
      for (size_t i = 0; i < judgements.size(); ++i) {
        if (group.empty() || asked[i].group == group) scores.push_back(judgements[i].scores[m]);
      }
      result.push_back(benchmarks::mean_of(names[m], group, scores));
    }
  }
  return result;
}

}  // namespace mora
