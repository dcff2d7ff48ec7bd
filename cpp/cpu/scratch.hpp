// Memory for the length of a scope, taken from a store that each thread keeps: after the first call nothing is
// allocated.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>
#include <vector>

namespace agf::cpu {

class Scratch {
 public:
  Scratch() : store_(store()), block_(store_.block), used_(store_.used) { ++store_.depth; }
  ~Scratch() {
    store_.block = block_;
    store_.used = used_;
    if (--store_.depth == 0) store_.settle();
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  // Room for `count` values, uninitialised, aligned to a cache line.
  template <typename T>
  T* take(std::size_t count) {
    return static_cast<T*>(store_.take(count * sizeof(T)));
  }

 private:
  static constexpr std::size_t alignment = 64;
  static constexpr std::size_t first_block = std::size_t{1} << 16;
  static constexpr std::size_t most_kept = std::size_t{1} << 25;

  struct Block {
    void* data;
    std::size_t size;
  };

  struct Store {
    std::vector<Block> blocks;
    std::size_t block = 0, used = 0, depth = 0;

    ~Store() { clear(); }
    void clear() {
      for (const Block& b : blocks) std::free(b.data);
      blocks.clear();
      block = used = 0;
    }
    void grow(std::size_t size) {
      void* data = std::aligned_alloc(alignment, size);
      if (!data) throw std::bad_alloc();
      blocks.push_back({data, size});
    }
    void* take(std::size_t bytes) {
      bytes = (bytes + alignment - 1) / alignment * alignment;
      while (block < blocks.size() && used + bytes > blocks[block].size) {
        ++block;
        used = 0;
      }
      if (block == blocks.size()) grow(bytes > first_block ? bytes : first_block);
      void* at = static_cast<char*>(blocks[block].data) + used;
      used += bytes;
      return at;
    }
    // With everything given back, several blocks become one, so that the next call finds all it needs in one place.
    void settle() {
      if (blocks.size() < 2 && (blocks.empty() || blocks[0].size <= most_kept)) return;
      std::size_t total = 0;
      for (const Block& b : blocks) total += b.size;
      clear();
      if (total <= most_kept) grow(total);
    }
  };

  static Store& store() {
    thread_local Store mine;
    return mine;
  }

  Store& store_;
  std::size_t block_, used_;
};

}  // namespace agf::cpu
