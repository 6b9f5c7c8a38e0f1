// SPDX-License-Identifier: MIT
// Runs one test program for ctest and says truly what became of it.
//
//   launcher ISA PROGRAM [ARGUMENT...]        ISA: the one the program was compiled for, or `any`
//
// - The processor lacks the ISA: prints why, exits with 77 (skipped). The check needs a program of its own, compiled
//   for the baseline: in the test program even the initialisers before `main` may hold unknown instructions.
// - The program succeeds and has printed a line that begins with SKIPPED: exits with 77. (ctest's own
//   SKIP_REGULAR_EXPRESSION would report a failed program as skipped, too.)
// - Else: the program's own exit code or signal.
#include "polymac/cpu/features.hpp"
#include "polymac/cpu/permission.hpp"

#include <cstdio>
#include <string_view>

#include <sys/wait.h>
#include <unistd.h>
#include <csignal>

namespace {

constexpr int exit_skipped = 77;  // SKIP_RETURN_CODE in tests/CMakeLists.txt
constexpr int exit_trouble = 2;

/// Copies what comes out of the pipe to the standard output; true if a line begins with SKIPPED.
bool pass_on(int pipe_end) {
  constexpr char word[] = "SKIPPED";
  constexpr std::size_t length = sizeof word - 1;
  bool found = false;
  std::size_t matched = 0;  // characters of the word at the beginning of this line; length + 1: no match
  char buffer[4096];
  for (ssize_t n; (n = read(pipe_end, buffer, sizeof buffer)) > 0;) {
    std::fwrite(buffer, 1, static_cast<std::size_t>(n), stdout);
    std::fflush(stdout);
    for (ssize_t i = 0; i < n; ++i) {
      if (buffer[i] == '\n') {
        matched = 0;
      } else if (matched < length) {
        matched = buffer[i] == word[matched] ? matched + 1 : length + 1;
        found = found || matched == length;
      }
    }
  }
  return found;
}

int run(char* const program[]) {
  int ends[2];
  if (pipe(ends) != 0) return std::perror("launcher: pipe"), exit_trouble;
  const pid_t child = fork();
  if (child < 0) return std::perror("launcher: fork"), exit_trouble;
  if (child == 0) {
    dup2(ends[1], STDOUT_FILENO);
    close(ends[0]);
    close(ends[1]);
    execvp(program[0], program);
    std::perror(program[0]);
    _exit(exit_trouble);
  }
  close(ends[1]);
  const bool skipped = pass_on(ends[0]);
  int status = 0;
  if (waitpid(child, &status, 0) != child) return std::perror("launcher: waitpid"), exit_trouble;
  if (WIFSIGNALED(status)) {
    std::fprintf(stderr, "launcher: %s was ended by signal %d\n", program[0], WTERMSIG(status));
    std::signal(WTERMSIG(status), SIG_DFL);
    std::raise(WTERMSIG(status));
    return exit_trouble;
  }
  const int code = WEXITSTATUS(status);
  return code == 0 && skipped ? exit_skipped : code;
}

}  // namespace

int main(int argc, char* argv[]) {
  if (argc < 3) {
    std::fprintf(stderr, "launcher: expected ISA PROGRAM [ARGUMENT...], %d arguments came\n", argc - 1);
    return exit_trouble;
  }
  const std::string_view isa = argv[1];
  if (isa.starts_with("amx") && polymac::cpu::runs(isa) && !polymac::cpu::permits_tiles()) {
    std::printf("SKIPPED: the operating system does not permit %s\n", argv[1]);
    return exit_skipped;
  }
  if (isa == "any" || polymac::cpu::runs(isa)) return run(argv + 2);
  std::printf("SKIPPED: CPU has no %s\n", argv[1]);
  return exit_skipped;
}
