#include "product.hpp"

#include <algorithm>

#include "each.cuh"
#include "product.cuh"

namespace AGF_SPACE::cuda {
namespace {

#if defined(AGF_BLOCK) && !defined(AGF_NARROW)
template <typename T>
struct Tiles {
  using Large = TileOf<32, 32, 16, 4, 4>;
  using Small = Large;
};
#elif defined(AGF_NARROW)
// Four threads in place of 64 and 256, for the shim.
template <typename T>
struct Tiles {
  using Large = TileOf<16, 16, 8, 8, 8>;
  using Small = TileOf<8, 8, 8, 4, 4>;
};
#else
template <typename T>
struct Tiles;
template <>
struct Tiles<float> {
  using Large = TileOf<128, 128, 16, 8, 8>;
  using Small = TileOf<32, 32, 16, 4, 4>;
};
template <>
struct Tiles<double> {
  using Large = TileOf<64, 64, 16, 4, 4>;
  using Small = TileOf<32, 32, 16, 4, 4>;
};
#endif

// Blocks that fill a large device twice; fewer tiles than that share out the inner index too, in parts that are worth
// it.
constexpr std::size_t enough_blocks = 264;
constexpr std::size_t least_part = 256;

template <typename T, typename Tile>
AGF_CORE void run([[maybe_unused]] Stream stream, Product<T, Tile> kernel, std::size_t batch) {
  kernel.tiles_high = (kernel.m + Tile::high - 1) / Tile::high;
  kernel.tiles_wide = (kernel.n + Tile::wide - 1) / Tile::wide;
  const std::size_t tiles = kernel.tiles_high * kernel.tiles_wide * batch;
#if defined(AGF_BLOCK)
  static_assert(Tile::threads == crew_width && Product<T, Tile>::shared_bytes <= most_shared);
  kernel.part = kernel.k;
  kernel.parts = 1;
  kernel.partial = nullptr;
  share(tiles, kernel);
#else
  const std::size_t wanted = std::min((enough_blocks + tiles - 1) / tiles, kernel.k / least_part);
  kernel.part = kernel.k;
  kernel.parts = 1;
  if (wanted > 1) {
    constexpr std::size_t deep = Tile::deep;
    kernel.part = ((kernel.k + wanted - 1) / wanted + deep - 1) / deep * deep;
    kernel.parts = (kernel.k + kernel.part - 1) / kernel.part;
  }
  Room room(stream);
  kernel.partial = kernel.parts > 1 ? room.take<T>(batch * kernel.parts * kernel.m * kernel.n) : nullptr;
  launch(stream, tiles * kernel.parts, Tile::threads, Product<T, Tile>::shared_bytes, kernel);
  if (kernel.parts == 1) return;
  const std::size_t size = kernel.m * kernel.n;
  each(
      stream, batch * size, AGF_LAMBDA(std::size_t e) {
        const std::size_t member = e / size, at = e % size;
        double sum = 0;
        for (std::size_t part = 0; part < kernel.parts; ++part)
          sum += static_cast<double>(kernel.partial[(member * kernel.parts + part) * size + at]);
        T* const to = kernel.c + member * kernel.c_step + at / kernel.n * kernel.c_stride + at % kernel.n;
        const T value = kernel.alpha * static_cast<T>(sum);
        *to = kernel.beta == T(0) ? value : value + kernel.beta * *to;
      });
#endif
}

}  // namespace

template <typename T>
AGF_CORE AGF_APART void product(Stream stream, Op a_op, Op b_op, std::size_t m, std::size_t n, std::size_t k,
                                double alpha, Matrix<const T> a, Matrix<const T> b, double beta, Matrix<T> c,
                                std::size_t batch) {
  if (m == 0 || n == 0 || batch == 0) return;
  const Operand<T> left{a.at, a.stride, a.step, a_op == Op::transpose};
  const Operand<T> right{b.at, b.stride, b.step, b_op == Op::none};
  const auto go = [&]<typename Tile>(Tile) {
    run(stream,
        Product<T, Tile>{m, n, k, 0, 0, 0, 0, left, right, static_cast<T>(alpha), static_cast<T>(beta), c.at, c.stride,
                         c.step, nullptr},
        batch);
  };
  using Large = typename Tiles<T>::Large;
  if (m > Large::high / 2 && n > Large::wide / 2) {
    go(Large{});
  } else {
    go(typename Tiles<T>::Small{});
  }
}

#if !defined(AGF_BLOCK)
template void product<float>(Stream, Op, Op, std::size_t, std::size_t, std::size_t, double, Matrix<const float>,
                             Matrix<const float>, double, Matrix<float>, std::size_t);
template void product<double>(Stream, Op, Op, std::size_t, std::size_t, std::size_t, double, Matrix<const double>,
                              Matrix<const double>, double, Matrix<double>, std::size_t);
#endif

}  // namespace AGF_SPACE::cuda
