#define AGF_LEAF baseline
#include "cpu/isa_table.inl"
