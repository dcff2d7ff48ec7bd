#define AGF_LEAF avx512
#include "cpu/isa_table.inl"
