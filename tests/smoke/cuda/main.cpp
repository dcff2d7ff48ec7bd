// The device code without Python: on the host by the shim, or on a GPU. "race" leaves a barrier out.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cpu/blas.hpp"

int kernel_failures();
int algebra_failures();
int dense_failures();
int diagonal_failures();
int moments_failures();
int modular_failures();
int block_failures();
int carrier_failures();
void without_a_barrier();

int main(int count, char** arguments) {
  if (count > 1 && std::strcmp(arguments[1], "race") == 0) {
    without_a_barrier();
    return EXIT_SUCCESS;
  }
  agf::cpu::blas::load();
  const int failures = kernel_failures() + algebra_failures() + dense_failures() + diagonal_failures() +
                       moments_failures() + modular_failures() + block_failures() + carrier_failures();
  if (failures == 0) std::puts("cuda smoke: all good");
  return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
