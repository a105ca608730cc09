// Programs as a user runs them: started in a folder, their output and exit code collected. Every
// program that a test started ends with it.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "temporary_folder.hpp"

namespace mora::testing {

struct Finished {
  int code;  // exit code; 128 + signal when one ended it; 127 when there is no such program
  std::string out, err;
};

class Command {
 public:
  // Starts arguments[0] (a path, or a name in PATH) in `folder`. An empty `standard_output` is
  // collected, any other is the file to write to.
  Command(const std::filesystem::path& folder, const std::vector<std::string>& arguments,
          const std::string& standard_output = "")
      : out_(standard_output.empty() ? logs_ / "out" : std::filesystem::path(standard_output)),
        err_(logs_ / "err") {
    std::vector<char*> argv;
    for (const std::string& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
    argv.push_back(nullptr);
    // A signal that arrives before exec must not meet the handlers of this program.
    sigset_t all, before;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_ = ::fork();
    if (pid_ == 0) {
      for (const int s : {SIGINT, SIGTERM}) ::signal(s, SIG_DFL);
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    REQUIRE(pid_ >= 0);
    if (pid_ > 0) return;
    const int out = ::open(out_.c_str(), O_WRONLY | O_CREAT, 0600);
    const int err = ::open(err_.c_str(), O_WRONLY | O_CREAT, 0600);
    if (::chdir(folder.c_str()) != 0 || ::dup2(out, 1) < 0 || ::dup2(err, 2) < 0) ::_exit(126);
    ::execvp(argv[0], argv.data());
    ::_exit(127);
  }
  Command(const Command&) = delete;
  Command& operator=(const Command&) = delete;
  ~Command() {
    if (pid_ <= 0) return;
    send(SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }

  pid_t pid() const { return pid_; }
  void send(int signal) const { ::kill(pid_, signal); }

  Finished wait() {
    int status = 0;
    REQUIRE(::waitpid(pid_, &status, 0) == pid_);
    pid_ = 0;
    const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return {code, std::filesystem::is_regular_file(out_) ? bytes_of(out_) : "", bytes_of(err_)};
  }

 private:
  TemporaryFolder logs_;
  std::filesystem::path out_, err_;
  pid_t pid_ = 0;
};

inline Finished run(const std::filesystem::path& folder, const std::vector<std::string>& arguments,
                    const std::string& standard_output = "") {
  return Command(folder, arguments, standard_output).wait();
}

inline std::vector<std::string> joined(std::vector<std::string> a,
                                       const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// mora-train and mora-eval of this build.
inline Finished train(const std::filesystem::path& folder,
                      const std::vector<std::string>& options) {
  return run(folder, joined({MORA_BINARY_DIR "/mora-train"}, options));
}
inline Finished score(const std::filesystem::path& folder,
                      const std::vector<std::string>& options) {
  return run(folder, joined({MORA_BINARY_DIR "/mora-eval"}, options));
}

inline const char* const kBase = MORA_SOURCE_DIR "/data/base";

// A run of a fraction of a second, into the folder "run" beside its configuration. `adapter` is a
// JSON object.
inline std::string uuid_config(const std::string& adapter) {
  return str(R"({"task": "uuid", "output_dir": "run", "model": {"path": ")", kBase,
             R"("}, "adapter": )", adapter, R"(,
  "data": {"pairs": 6},
  "train": {"learning_rate": 3e-3, "per_device_train_batch_size": 4, "max_steps": 6,
            "logging_steps": 2, "save_steps": 3, "save_at": [2], "eval_steps": 4},
  "eval": {"max_new_tokens": 40}})");
}

inline std::string pretrain_config() {
  return str(R"({"task": "pretrain", "output_dir": "run",
  "model": {"config": ")",
             MORA_SOURCE_DIR, R"(/configs/base_model.json", "tokenizer": ")", kBase, R"("},
  "adapter": {"method": "full"},
  "data": {"train_files": ["text.txt"], "validation_files": ["text.txt"], "block_size": 32},
  "train": {"max_steps": 4, "per_device_train_batch_size": 2, "logging_steps": 2,
            "save_steps": 2}})");
}

inline std::string some_text() {
  std::string text;
  for (int i = 0; i < 60; ++i) text += str("line ", i, " says that ", i * i, " is its square\n");
  return text;
}

}  // namespace mora::testing
