// Errors: one clear line (what, where, what was expected, what to do) and the exit code it leads
// to.
//
// Everything a person can cause is thrown as `Error`; its kind *is* the documented exit code.
// Anything else that escapes is a defect of the program and ends with code 1.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

namespace mora {

enum class ErrorKind : int {
  internal = 1,   // a defect of this program
  usage = 2,      // command line or configuration
  data = 3,       // bad model, data or checkpoint file
  memory = 4,     // does not fit in memory
  numerical = 5,  // NaN or infinity where a finite number was needed
  io = 6,         // the system refused to read or write
  locked = 7,     // another run owns the output folder
};

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const { return kind_; }
  int exit_code() const { return static_cast<int>(kind_); }

 private:
  ErrorKind kind_;
};

// Concatenates anything printable.
template <class... Parts>
std::string str(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return std::move(out).str();
}

template <class... Parts>
[[noreturn]] void fail(ErrorKind kind, const Parts&... parts) {
  throw Error(kind, str(parts...));
}

// A broken invariant of our own code: never the user's fault.
template <class... Parts>
void ensure(bool holds, const Parts&... parts) {
  if (!holds) throw Error(ErrorKind::internal, str("internal error: ", parts...));
}

}  // namespace mora
