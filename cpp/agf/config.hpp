// What functions need to compile for the host, for a device, and several times for the host.
#pragma once

// Leaf functions run on host and device.
#if defined(__CUDACC__)
#define AGF_HD __host__ __device__ __forceinline__
#else
#define AGF_HD inline
#endif

// Leaves live in agf::AGF_LEAF. A translation unit built for a wider instruction set names its own namespace: otherwise
// the linker may keep the wide copy of a shared inline function and run it where it cannot run.
#if !defined(AGF_LEAF)
#define AGF_LEAF leaf
#endif

// The engines, and what they steer, are compiled for the host, and once more for one block of a device's threads
// (AGF_BLOCK), which then carries a whole run: its first thread steers, and shares with the others what is long. The
// two live side by side, each in its own namespace.
#if defined(AGF_BLOCK)
#define AGF_SPACE agf::inline block
#else
#define AGF_SPACE agf
#endif

// Marks what steers, and constants of namespaces, which a device must be given. A block's code is the whole engine's:
// what is large and used in many places (AGF_APART) is there once, and called.
#if defined(AGF_BLOCK) && defined(__CUDACC__)
#define AGF_CORE __device__
#define AGF_TABLE __device__ constexpr
#define AGF_APART __noinline__
#else
#define AGF_CORE
#define AGF_TABLE constexpr
#define AGF_APART
#endif
