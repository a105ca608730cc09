// The table of tasks. A new one is one source file and one line here.
#include "tasks/tasks.hpp"

namespace mora {

namespace {

struct Row {
  std::string_view name;
  std::unique_ptr<Task> (*make)(const RunConfig&, const Tokenizer&, TaskUse);
};

constexpr Row kTasks[] = {{"uuid", tasks::make_uuid},
                          {"pretrain", tasks::make_pretrain},
                          {"continual", tasks::make_pretrain},
                          {"instruction", tasks::make_supervised},
                          {"math", tasks::make_supervised}};

}  // namespace

std::unique_ptr<Task> make_task(const RunConfig& config, const Tokenizer& tokenizer, TaskUse use) {
  for (const Row& row : kTasks) {
    if (row.name == config.task) return row.make(config, tokenizer, use);
  }
  fail(ErrorKind::usage, "task: \"", config.task, "\" is not known");
}

}  // namespace mora
