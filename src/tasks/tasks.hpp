// The constructors of the tasks, for the table.
#pragma once

#include "mora/tasks/task.hpp"

namespace mora::tasks {

std::unique_ptr<Task> make_uuid(const RunConfig& config, const Tokenizer& tokenizer, TaskUse use);
std::unique_ptr<Task> make_pretrain(const RunConfig& config, const Tokenizer& tokenizer,
                                    TaskUse use);
std::unique_ptr<Task> make_supervised(const RunConfig& config, const Tokenizer& tokenizer,
                                      TaskUse use);

}  // namespace mora::tasks
