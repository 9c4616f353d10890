// The kernels in a process of their own: requests come on standard input, results go to standard output. Tests run
// through it what would end their own process - guard pages, sanitizers - and what is compiled for another machine.
//
//     runner [--place=end|begin|heap] [--callers=N]
//
// A request is a line; `launch FUNCTION INPUTS OUTPUTS REPEATS` is followed by a line `DTYPE UPDATED BYTES RANK
// EXTENTS...` for each parameter (UPDATED: an input that the operator overwrites, 0 or 1; BYTES: of an element) and by
// the bytes of the inputs. The answer is `ok BYTES`, `error BYTES` or `fault BYTES`, and so many bytes.
#include <malloc.h>
#include <signal.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <iostream>
#include <sstream>
#include <thread>
#include <vector>

#include "buffers.h"
#include "core/aot.h"
#include "core/dispatch.h"
#include "core/error.h"
#include "core/parallel.h"
#include "core/trace.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;  // and it handles faults and memory itself
#else
constexpr bool kSanitized = false;
// Kernels take their working memory here: what they read before they wrote it is NaN, and shows.
extern "C" void* aligned_alloc(size_t alignment, size_t bytes) {
  void* memory = nullptr;
  if (posix_memalign(&memory, alignment, bytes) != 0) return nullptr;
  return std::memset(memory, runner::kPoison, bytes);
}
#endif

namespace runner {
namespace {

Place place = Place::kEnd;
int callers = 1;
std::vector<const Buffer*> live;  // the parameters of the running call, for the message of a fault
std::string running;

void Answer(const char* kind, const std::string& text) {
  std::printf("%s %zu\n", kind, text.size());
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

// Nothing else can be done in a process that touched forbidden memory; the parent reads why it ended.
void OnFault(int, siginfo_t* info, void*) {
  char text[256];
  int length = std::snprintf(text, sizeof text, "%s: invalid access", running.c_str());
  for (size_t i = 0; i < live.size(); ++i) {
    const Buffer& buffer = *live[i];
    if (!buffer.Owns(info->si_addr)) continue;
    const int64_t at = static_cast<char*>(info->si_addr) - buffer.Data();
    length = std::snprintf(text, sizeof text, "%s: parameter %zu of %" PRId64 " bytes: access at byte %" PRId64 "%s",
                           running.c_str(), i, buffer.Bytes(), at,
                           at >= 0 && at < buffer.Bytes() ? ", a write to an input" : "");
  }
  if (write(STDERR_FILENO, text, length) < 0) _exit(98);
  _exit(99);
}

struct Parameter {
  std::string dtype;
  bool updated = false;
  std::vector<int64_t> shape;
  int64_t bytes = 0;
};

Parameter ReadParameter() {
  Parameter parameter;
  size_t rank = 0;
  std::string line;
  std::getline(std::cin, line);
  std::istringstream text(line);
  text >> parameter.dtype >> parameter.updated >> parameter.bytes >> rank;
  parameter.shape.resize(rank);
  for (int64_t& extent : parameter.shape) {
    text >> extent;
    parameter.bytes *= extent;
  }
  return parameter;
}

// One caller's outputs, and the tables of the AOT form.
class Call {
 public:
  Call(const std::vector<Parameter>& parameters, const std::vector<Buffer>& inputs) : parameters_(parameters) {
    for (size_t i = inputs.size(); i < parameters.size(); ++i) outputs_.emplace_back(place, parameters[i].bytes);
    shapes_.reserve(parameters.size());
    for (size_t i = 0; i < parameters.size(); ++i) {
      data_.push_back(i < inputs.size() ? inputs[i].Data() : outputs_[i - inputs.size()].Data());
      ndims_.push_back(static_cast<int>(parameters[i].shape.size()));
      shapes_.push_back(const_cast<int64_t*>(parameters[i].shape.data()));
      dtypes_.push_back(parameters[i].dtype.c_str());
    }
  }

  void Run(maam::AotFunction* function, int64_t repeats) {
    try {
      for (int64_t i = 0; i < repeats; ++i) {
        function(static_cast<int>(parameters_.size()), data_.data(), ndims_.data(), shapes_.data(), dtypes_.data(),
                 nullptr, nullptr);
      }
    } catch (const std::exception& e) {
      error = e.what();
    }
  }

  std::string Results() const {
    std::string bytes;
    for (const Buffer& output : outputs_) bytes.append(output.Data(), output.Bytes());
    return bytes;
  }

  std::string error;
  const std::vector<Buffer>& Outputs() const { return outputs_; }

 private:
  const std::vector<Parameter>& parameters_;
  std::vector<Buffer> outputs_;
  std::vector<void*> data_;
  std::vector<int> ndims_;
  std::vector<int64_t*> shapes_;
  std::vector<const char*> dtypes_;
};

void Launch(std::istringstream& request) {
  size_t inputs = 0;
  size_t outputs = 0;
  int64_t repeats = 1;
  request >> running >> inputs >> outputs >> repeats;
  std::vector<Parameter> parameters;
  for (size_t i = 0; i < inputs + outputs; ++i) parameters.push_back(ReadParameter());
  std::vector<Buffer> buffers;
  std::string sent;
  for (size_t i = 0; i < inputs; ++i) {
    buffers.emplace_back(place, parameters[i].bytes);
    std::cin.read(buffers[i].Data(), parameters[i].bytes);
    if (parameters[i].updated) continue;
    sent.append(buffers[i].Data(), parameters[i].bytes);
    buffers[i].ForbidWrites();
  }
  const auto found = maam::AotFunctions().find(running);
  if (found == maam::AotFunctions().end()) return Answer("error", "no entry point " + running);
  std::vector<Call> calls;
  const bool updates = std::any_of(parameters.begin(), parameters.end(), [](const Parameter& p) { return p.updated; });
  // What is updated belongs to one caller at a time. Oracles are plain loops without threads.
  const int together = updates || running.ends_with("Reference") ? 1 : callers;
  for (int i = 0; i < together; ++i) calls.emplace_back(parameters, buffers);
  std::vector<std::thread> threads;
  for (const Buffer& buffer : buffers) live.push_back(&buffer);
  for (const Buffer& buffer : calls[0].Outputs()) live.push_back(&buffer);
  for (int i = 1; i < together; ++i) threads.emplace_back([&, i] { calls[i].Run(found->second, repeats); });
  calls[0].Run(found->second, repeats);
  for (std::thread& thread : threads) thread.join();
  live.clear();
  if (!calls[0].error.empty()) return Answer("error", calls[0].error);
  std::string after;
  std::string updated;
  for (size_t i = 0; i < inputs; ++i) {
    (parameters[i].updated ? updated : after).append(buffers[i].Data(), buffers[i].Bytes());
  }
  if (after != sent) return Answer("fault", running + ": an input was written");
  const std::string results = calls[0].Results();
  for (const Call& call : calls) {
    if (call.Results() != results) return Answer("fault", running + ": callers at the same time got different bits");
  }
  Answer("ok", updated + results);
}

std::string Kernels() {
  std::string lines;
  for (const maam::Variant& variant : maam::Inventory()) {
    lines += std::string(variant.kernel) + " " + maam::Name(variant.isa) + " " +
             (variant.isa <= maam::DetectedIsa() ? "1" : "0") + "\n";
  }
  return lines;
}

std::string CounterLines() {
  std::string lines;
  for (const auto& [name, c] : maam::Counters()) {
    lines += name + " " + std::to_string(c.calls) + " " + std::to_string(c.bytes_moved) + " " +
             std::to_string(c.scratch_bytes) + "\n";
  }
  return lines;
}

std::string Functions() {
  std::string lines;
  for (const auto& entry : maam::AotFunctions()) lines += entry.first + "\n";
  return lines;
}

void Serve(const std::string& line) {
  std::istringstream request(line);
  std::string command, argument;
  request >> command;
  if (command == "launch") return Launch(request);
  request >> argument;
  if (command == "functions") return Answer("ok", Functions());
  if (command == "kernels") return Answer("ok", Kernels());
  if (command == "counters") return Answer("ok", CounterLines());
  if (command == "detected_isa") return Answer("ok", maam::Name(maam::DetectedIsa()));
  if (command == "active_isa") return Answer("ok", maam::Name(maam::ActiveIsa()));
  if (command == "num_threads") return Answer("ok", std::to_string(maam::NumThreads()));
  if (command == "heap_bytes") return Answer("ok", std::to_string(mallinfo2().uordblks));
  if (command == "reset_counters") {
    maam::ResetCounters();
  } else if (command == "cap_isa") {
    maam::CapIsa(maam::ParseIsa(argument));
  } else if (command == "set_num_threads") {
    maam::SetNumThreads(std::stoi(argument));
  } else {
    return Answer("error", "no command " + command);
  }
  Answer("ok", "");
}

bool ParseOption(const std::string& option) {
  if (option == "--place=end")
    place = Place::kEnd;
  else if (option == "--place=begin")
    place = Place::kBegin;
  else if (option == "--place=heap")
    place = Place::kHeap;
  else if (option.rfind("--callers=", 0) == 0)
    callers = std::stoi(option.substr(10));
  else
    return false;
  return true;
}

}  // namespace
}  // namespace runner

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (runner::ParseOption(argv[i])) continue;
    std::fprintf(stderr, "runner: unknown option %s\n", argv[i]);
    return 2;
  }
  std::ios::sync_with_stdio(false);
  if (!kSanitized) {
    struct sigaction action = {};
    action.sa_sigaction = runner::OnFault;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &action, nullptr);
    sigaction(SIGBUS, &action, nullptr);
  }
  for (std::string line; std::getline(std::cin, line);) {
    try {
      runner::Serve(line);
    } catch (const std::exception& e) {
      runner::Answer("error", e.what());
    }
  }
}
