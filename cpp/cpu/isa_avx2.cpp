#define AGF_LEAF avx2
#include "cpu/isa_table.inl"
