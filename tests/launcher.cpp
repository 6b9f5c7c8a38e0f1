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
#include <cstdio>
#include <cstring>

#include <sys/wait.h>
#include <unistd.h>
#include <csignal>
#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace {

constexpr int exit_skipped = 77;  // SKIP_RETURN_CODE in tests/CMakeLists.txt
constexpr int exit_trouble = 2;

enum class answer { yes, no, unknown };

answer runs_here(const char* isa) {
  const auto is = [isa](const char* name) { return std::strcmp(isa, name) == 0; };
  const auto from = [](bool has) { return has ? answer::yes : answer::no; };
  if (is("any")) return answer::yes;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (is("scalar")) return answer::yes;
  if (is("avx2")) return from(avx2);
  if (is("avx512")) return from(avx512);
  if (is("avx512_vnni")) return from(avx512 && __builtin_cpu_supports("avx512vnni"));
  if (is("avx_vnni")) {
    // Not every compiler has a name for it: CPUID leaf 7, subleaf 1, EAX bit 4.
    unsigned eax = 7, ebx = 0, ecx = 1, edx = 0;
    if (avx2) __asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    return from(avx2 && (eax & (1U << 4)) != 0);
  }
#elif defined(__aarch64__)
  constexpr unsigned long hwcap_dotprod = 1UL << 20;  // HWCAP_ASIMDDP
  if (is("neon")) return answer::yes;
  if (is("neon_dotprod")) return from((getauxval(AT_HWCAP) & hwcap_dotprod) != 0);
#else
  static_cast<void>(from);
  if (is("scalar")) return answer::yes;
#endif
  return answer::unknown;
}

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
  switch (runs_here(argv[1])) {
    case answer::yes:
      return run(argv + 2);
    case answer::no:
      std::printf("SKIPPED: CPU has no %s\n", argv[1]);
      return exit_skipped;
    case answer::unknown:
      break;
  }
  std::fprintf(stderr, "launcher: unknown ISA '%s'\n", argv[1]);
  return exit_trouble;
}
