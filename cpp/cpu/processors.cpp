#include "cpu/processors.hpp"

#if defined(__linux__)
#include <sched.h>
#endif

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>
#include <thread>

namespace agf::cpu {
namespace {

constexpr double unlimited = std::numeric_limits<double>::infinity();

// Processors' worth of time: "max 100000" or "150000 100000" (version 2), or the two numbers in files of their own.
double share(const std::string& quota, const std::string& period) {
  try {
    const double given = std::stod(quota), of = std::stod(period);
    if (given > 0 && of > 0) return given / of;
  } catch (const std::logic_error&) {
    // "max", "-1" or a file that is not there
  }
  return unlimited;
}

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// The least of a group and those it is in.
template <typename Read>
double least(std::string group, const Read& read) {
  double limit = unlimited;
  for (;;) {
    limit = std::min(limit, read(group));
    const std::size_t slash = group.rfind('/');
    if (slash == std::string::npos) return limit;
    group.resize(slash);
  }
}

double granted(const std::string& root) {
  const std::string sys = root + "/sys/fs/cgroup";
  std::ifstream groups(root + "/proc/self/cgroup");
  double limit = unlimited;
  for (std::string line; std::getline(groups, line);) {
    // number:controllers:/group
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string group = line.substr(second + 1);
    if (group == "/") group.clear();
    if (controllers.empty()) {
      limit = std::min(limit, least(group, [&](const std::string& at) {
                         std::istringstream words(first_line(sys + at + "/cpu.max"));
                         std::string quota, period;
                         words >> quota >> period;
                         return share(quota, period);
                       }));
    } else if (("," + controllers + ",").find(",cpu,") != std::string::npos) {
      limit =
          std::min(limit, least(group, [&](const std::string& at) {
                     const std::string folder = sys + "/cpu" + at;
                     return share(first_line(folder + "/cpu.cfs_quota_us"), first_line(folder + "/cpu.cfs_period_us"));
                   }));
    }
  }
  return limit;
}

std::size_t allowed() {
#if defined(__linux__)
  // Twice the set until it holds the machine's processors.
  for (int most = 1024; most <= (1 << 20); most *= 2) {
    cpu_set_t* const set = CPU_ALLOC(static_cast<std::size_t>(most));
    if (!set) break;
    const std::size_t bytes = CPU_ALLOC_SIZE(static_cast<std::size_t>(most));
    const bool known = sched_getaffinity(0, bytes, set) == 0;
    const int count = known ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (count > 0) return static_cast<std::size_t>(count);
  }
#endif
  return std::max(1u, std::thread::hardware_concurrency());
}

}  // namespace

std::size_t processors(const std::string& root) {
  const std::size_t most = allowed();
  const double limit = std::ceil(granted(root));
  return limit < static_cast<double>(most) ? std::max<std::size_t>(1, static_cast<std::size_t>(limit)) : most;
}

}  // namespace agf::cpu
