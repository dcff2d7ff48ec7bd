// Dense linear algebra of one block of threads, on matrices in global memory: what agf::Backend offers, with the same
// contracts, for runs that live in a block. Matrices are n x n, row-major, of doubles.
//
// A kernel here waits neither before its first access nor after its last: what calls it has a barrier on either side.
// The threads of a block take the same turns, whatever the numbers, and add in an order that n and the width decide.
#pragma once

#include "algebra/cholesky.cuh"
#include "algebra/eigen.cuh"
#include "algebra/lu.cuh"
