#include "cpu/isa.hpp"

#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

namespace agf {

namespace baseline {
extern const cpu::Isa entry;
}
namespace avx2 {
extern const cpu::Isa entry;
}
namespace avx512 {
extern const cpu::Isa entry;
}

namespace cpu {
namespace {

struct Available {
  const Isa* sets[4] = {};
  Available() {
    const Isa** next = sets;
    *next++ = &baseline::entry;
#if defined(AGF_X86)
    __builtin_cpu_init();
    const bool wide = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (wide) *next++ = &avx2::entry;
    if (wide && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
      *next++ = &avx512::entry;
    }
#endif
    *next = nullptr;
  }
};

const Isa* choose() {
  const Isa* const* sets = isa_available();
  const char* asked = std::getenv("AGF_ISA");
  std::string names;
  const Isa* widest = nullptr;
  for (; *sets; ++sets) {
    widest = *sets;
    if (asked && std::strcmp(asked, widest->name) == 0) return widest;
    names += std::string(names.empty() ? "" : ", ") + widest->name;
  }
  if (asked && *asked) {
    throw std::runtime_error("AGF_ISA: got '" + std::string(asked) + "', expected one of " + names +
                             ": the instruction sets of this machine; unset it to take the widest");
  }
  return widest;
}

}  // namespace

const Isa* const* isa_available() {
  static const Available available;
  return available.sets;
}

const Isa& isa() {
  static const Isa* const chosen = choose();
  return *chosen;
}

}  // namespace cpu
}  // namespace agf
