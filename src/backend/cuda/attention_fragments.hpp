// Products of blocks of heads in bf16 on tensor cores, by a warp for its own rows.
//
// A tile is rows of D bf16 in shared memory, in chunks of 16 bytes: chunk c of row r lies at chunk
// c ^ (r % 8) of that row, so that the eight rows of a matrix, and the eight chunks that
// neighbouring threads copy, lie in different banks.
#pragma once

#include "backend/cuda/attention.hpp"
#include "backend/cuda/tensor_cores.hpp"

namespace mora::cuda {

// Rows of a warp's fragments: 16 M by 8 N numbers, as d of mma().
template <int M, int N>
using Fragments = float[M][N][4];

__device__ inline int lane_id() {
  return static_cast<int>(threadIdx.x) % kWarp;
}
__device__ inline int warp_id() {
  return static_cast<int>(threadIdx.x) / kWarp;
}
// Where element e of a fragment stands.
__device__ inline int fragment_row(int e) {
  return lane_id() / 4 + e / 2 * 8;
}
__device__ inline int fragment_column(int e) {
  return lane_id() % 4 * 2 + e % 2;
}

template <int M, int N>
__device__ void clear(Fragments<M, N>& x) {
  MORA_UNROLL
  for (int m = 0; m < M; ++m) {
    MORA_UNROLL
    for (int n = 0; n < N; ++n) {
      MORA_UNROLL
      for (int e = 0; e < 4; ++e) x[m][n][e] = 0;
    }
  }
}

template <int D>
struct HeadTile {
  static constexpr int kChunk = 8, kChunks = D / kChunk;

  // Of chunk c of a row, in elements. Rows that are multiples of 8 apart have the same order, and
  // as D is a power of two, at(r, b ^ c) = at(r, b) ^ c * kChunk.
  __device__ static int at(int row, int c) { return row * D + (c ^ row % 8) * kChunk; }

  // Begins to copy rows [first, first + Rows); zeros behind the last token and the last dimension.
  template <int Rows, int Threads>
  __device__ static void begin_load(const HeadRows<const bf16>& from, int first, bf16* tile) {
    constexpr int kStep = Threads / kChunks;
    static_assert(kStep % 8 == 0 && Rows % kStep == 0);
    const int thread = anew(static_cast<int>(threadIdx.x)), r = thread / kChunks,
              c = thread % kChunks;
    bf16* to = tile + at(r, c);
    const bf16* source = from.row(first + r) + c * kChunk;
    MORA_UNROLL
    for (int i = 0; i < Rows; i += kStep) {
      const bool inside = first + r + i < from.tokens && c * kChunk < from.head_dim;
      begin_copy<16>(to + i * D, inside ? source + int64_t{i} * from.stride : from.data,
                     inside ? Copied::data : Copied::zeros);
    }
  }

  // out = a[first_row + .., :] b^T: rows of one tile by rows of another.
  template <int M, int N>
  __device__ static void multiply(const bf16* a, int first_row, const bf16* b,
                                  Fragments<M, N>& out) {
    clear<M, N>(out);
    const int lane = anew(lane_id()), of_a = at(first_row + lane % 16, lane / 16),
              of_b = at(lane / 16 * 8 + lane % 8, lane / 8 % 2);
    MORA_UNROLL
    for (int k = 0; k < D; k += 16) {
      uint32_t rows[M][4];
      MORA_UNROLL
      for (int m = 0; m < M; ++m) load_matrices(rows[m], a, (of_a ^ k) + 16 * m * D);
      MORA_UNROLL
      for (int n = 0; n < N; n += 2) {
        uint32_t columns[4];
        load_matrices(columns, b, (of_b ^ k) + 8 * n * D);
        MORA_UNROLL
        for (int m = 0; m < M; ++m) {
          mma(out[m][n], rows[m], columns[0], columns[1]);
          mma(out[m][n + 1], rows[m], columns[2], columns[3]);
        }
      }
    }
  }

  // sums += bf16(weights) b: the columns of weights are the rows of the tile.
  template <int M, int N>
  __device__ static void add(const Fragments<M, N>& weights, const bf16* b,
                             Fragments<M, kChunks>& sums) {
    const int lane = anew(lane_id()), of_b = at(lane % 16, lane / 16);
    MORA_UNROLL
    for (int n = 0; n < N; n += 2) {
      // d of two products is a of the next.
      uint32_t rows[M][4];
      MORA_UNROLL
      for (int m = 0; m < M; ++m) {
        MORA_UNROLL
        for (int i = 0; i < 4; ++i) {
          const float(&pair)[4] = weights[m][n + i / 2];
          rows[m][i] = pack_bf16(pair[i % 2 * 2], pair[i % 2 * 2 + 1]);
        }
      }
      MORA_UNROLL
      for (int c = 0; c < kChunks; c += 2) {
        uint32_t columns[4];
        load_matrices_transposed(columns, b, (of_b ^ c * kChunk) + 8 * n * D);
        MORA_UNROLL
        for (int m = 0; m < M; ++m) {
          mma(sums[m][c], rows[m], columns[0], columns[1]);
          mma(sums[m][c + 1], rows[m], columns[2], columns[3]);
        }
      }
    }
  }

  // to[token + .., :] = bf16(sums), by way of the warp's own rows of a tile that no other warp
  // reads.
  template <int M>
  __device__ static void write(const Fragments<M, kChunks>& sums, bf16* tile, int first_row,
                               int token, const HeadRows<bf16>& to) {
    const int own = at(first_row + fragment_row(0), 0) + fragment_column(0);
    __syncwarp();
    MORA_UNROLL
    for (int m = 0; m < M; ++m) {
      MORA_UNROLL
      for (int c = 0; c < kChunks; ++c) {
        MORA_UNROLL
        for (int e = 0; e < 4; e += 2) {
          const int to_row = (16 * m + e / 2 * 8) * D;
          *reinterpret_cast<uint32_t*>(tile + (own ^ c * kChunk) + to_row) =
              pack_bf16(sums[m][c][e], sums[m][c][e + 1]);
        }
      }
    }
    __syncwarp();
    for (int i = lane_id(); i < 16 * M * kChunks; i += kWarp) {
      const int r = i / kChunks, c = i % kChunks;
      if (token + r < to.tokens && c * kChunk < to.head_dim) {
        *reinterpret_cast<uint4*>(to.row(token + r) + c * kChunk) =
            *reinterpret_cast<const uint4*>(tile + at(first_row + r, c));
      }
    }
  }
};

constexpr float kLog2E = 1.4426950408889634f;

}  // namespace mora::cuda
