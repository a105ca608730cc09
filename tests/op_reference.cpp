// Plain loops from the formulas. Sums run in the order of the formula; sizes are small enough that
// nothing else matters.
#include "op_reference.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "mora/core/random.hpp"

namespace mora::testing::reference {

namespace {

size_t at(int64_t i) {
  return static_cast<size_t>(i);
}
size_t at(double i) {
  return static_cast<size_t>(i);
}
int64_t length(const Array& x) {
  return static_cast<int64_t>(x.size());
}
double sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}

}  // namespace

Array matmul(const Array& a, const Array& b, const Array& c, const MatmulSize& size,
             const MatmulTerm& attrs) {
  const auto [m, k, n] = size;
  const bool ta = attrs.ta == Transpose::yes, tb = attrs.tb == Transpose::yes;
  Array y(at(m * n));
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (int64_t p = 0; p < k; ++p)
        sum += a[at(ta ? p * m + i : i * k + p)] * b[at(tb ? j * k + p : p * n + j)];
      y[at(i * n + j)] = attrs.alpha * sum + (c.empty() ? 0 : c[at(i * n + j)]);
    }
  }
  return y;
}

Array embedding(const Array& table, const Array& ids, int64_t width) {
  Array y;
  for (double id : ids) {
    for (int64_t d = 0; d < width; ++d) y.push_back(table[at(id) * at(width) + at(d)]);
  }
  return y;
}

Array embedding_grad(const Array& dy, const Array& ids, int64_t rows, int64_t width) {
  Array sum(at(rows * width));
  for (size_t i = 0; i < dy.size(); ++i)
    sum[at(ids[i / at(width)]) * at(width) + i % at(width)] += dy[i];
  return sum;
}

Arrays rms_norm(const Array& x, const Array& w, double eps) {
  const size_t width = w.size(), tokens = x.size() / width;
  Array y(x.size()), rstd(tokens);
  for (size_t t = 0; t < tokens; ++t) {
    double squares = 0;
    for (size_t d = 0; d < width; ++d) squares += x[t * width + d] * x[t * width + d];
    rstd[t] = 1 / std::sqrt(squares / static_cast<double>(width) + eps);
    for (size_t d = 0; d < width; ++d) y[t * width + d] = x[t * width + d] * rstd[t] * w[d];
  }
  return {y, rstd};
}

// The Jacobian written out: dy[j]/dx[i] = w[j] (rstd [i = j] - x[i] x[j] rstd^3 / D).
Arrays rms_norm_grad(const Array& x, const Array& w, const Array& dy, double eps) {
  const size_t width = w.size();
  const Array rstd = rms_norm(x, w, eps)[1];
  Array dx(x.size()), dw(width);
  for (size_t t = 0; t < rstd.size(); ++t) {
    const double *row = &x[t * width], *d = &dy[t * width];
    const double r = rstd[t];
    for (size_t i = 0; i < width; ++i) {
      for (size_t j = 0; j < width; ++j) {
        const double own = i == j ? r : 0.0;
        dx[t * width + i] +=
            d[j] * w[j] * (own - row[i] * row[j] * r * r * r / static_cast<double>(width));
      }
      dw[i] += d[i] * row[i] * r;
    }
  }
  return {dx, dw};
}

Array rope(const Array& x, const Array& table, const Array& positions, int64_t head_dim,
           const RopeAttrs& attrs) {
  const size_t dim = at(head_dim), half = dim / 2;
  const double sign = attrs.direction == Direction::forward ? 1 : -1;
  Array y(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t token = i / (dim * at(attrs.heads)), c = i % dim;
    const size_t row = at(positions[token]) * dim;
    const double cosine = table[row + c % half], sine = sign * table[row + half + c % half];
    y[i] = c < half ? x[i] * cosine - x[i + half] * sine : x[i] * cosine + x[i - half] * sine;
  }
  return y;
}

Array swiglu(const Array& gate, const Array& up) {
  Array y(gate.size());
  for (size_t i = 0; i < y.size(); ++i) y[i] = gate[i] * sigmoid(gate[i]) * up[i];
  return y;
}

// silu'(g) = s + g s (1 - s)
Arrays swiglu_grad(const Array& gate, const Array& up, const Array& dy) {
  Array dgate(gate.size()), dup(gate.size());
  for (size_t i = 0; i < dy.size(); ++i) {
    const double g = gate[i], s = sigmoid(g);
    dgate[i] = dy[i] * up[i] * (s + g * s * (1 - s));
    dup[i] = dy[i] * g * s;
  }
  return {dgate, dup};
}

namespace {

// Softmax weights of one query over the rows first..last of k; returns the log of the sum of
// exponentials.
struct Weights {
  std::vector<double> p;
  double lse;
};

struct Row {
  const double* data;
  int64_t stride;  // between rows of the same head
};

Weights weights_of(const double* q, const Row& k, int64_t first, int64_t last, int64_t head_dim,
                   double scale) {
  Weights w{{}, 0};
  double top = -std::numeric_limits<double>::infinity(), total = 0;
  for (int64_t s = first; s <= last; ++s) {
    double score = 0;
    for (int64_t d = 0; d < head_dim; ++d) score += q[d] * k.data[s * k.stride + d];
    w.p.push_back(scale * score);
    top = std::max(top, w.p.back());
  }
  for (double score : w.p) total += std::exp(score - top);
  w.lse = top + std::log(total);
  for (double& p : w.p) p = std::exp(p - w.lse);
  return w;
}

// y = sum of p[s - first] * v[s]
void mix(const Weights& w, const Row& v, int64_t first, int64_t head_dim, double* y) {
  for (size_t s = 0; s < w.p.size(); ++s) {
    for (int64_t d = 0; d < head_dim; ++d) {
      y[d] += w.p[s] * v.data[(first + static_cast<int64_t>(s)) * v.stride + d];
    }
  }
}

}  // namespace

Arrays attention(const Qkv& in, const Array& segment_start, int64_t head_dim,
                 const AttentionAttrs& attrs) {
  const int64_t width = attrs.heads * head_dim, kv_width = attrs.kv_heads * head_dim,
                tokens = length(segment_start);
  Array y(in.q.size()), lse(at(tokens * attrs.heads));
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t h = 0; h < attrs.heads; ++h) {
      const int64_t kv = h / (attrs.heads / attrs.kv_heads) * head_dim,
                    q = t * width + h * head_dim;
      const auto first = static_cast<int64_t>(segment_start[at(t)]);
      const Weights w = weights_of(in.q.data() + q, {in.k.data() + kv, kv_width}, first, t,
                                   head_dim, attrs.scale);
      lse[at(t * attrs.heads + h)] = w.lse;
      mix(w, {in.v.data() + kv, kv_width}, first, head_dim, y.data() + q);
    }
  }
  return {y, lse};
}

// One query and head at a time, by the softmax's Jacobian: dscore[s] = p[s] (g[s] - sum_r p[r]
// g[r]), g[s] = dy . v[s].
Arrays attention_grad(const Qkv& in, const Array& segment_start, const Array& dy, int64_t head_dim,
                      const AttentionAttrs& attrs) {
  const int64_t width = attrs.heads * head_dim, kv_width = attrs.kv_heads * head_dim,
                tokens = length(segment_start);
  Array dq(in.q.size()), dk(in.k.size()), dv(in.v.size());
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t h = 0; h < attrs.heads; ++h) {
      const int64_t kv = h / (attrs.heads / attrs.kv_heads) * head_dim,
                    q = t * width + h * head_dim;
      const auto first = static_cast<int64_t>(segment_start[at(t)]);
      const Weights w = weights_of(in.q.data() + q, {in.k.data() + kv, kv_width}, first, t,
                                   head_dim, attrs.scale);
      Array g(w.p.size());
      double mean = 0;
      for (size_t s = 0; s < g.size(); ++s) {
        const int64_t row = (first + static_cast<int64_t>(s)) * kv_width + kv;
        for (int64_t d = 0; d < head_dim; ++d) g[s] += dy[at(q + d)] * in.v[at(row + d)];
        mean += w.p[s] * g[s];
      }
      for (size_t s = 0; s < g.size(); ++s) {
        const int64_t row = (first + static_cast<int64_t>(s)) * kv_width + kv;
        const double dscore = attrs.scale * w.p[s] * (g[s] - mean);
        for (int64_t d = 0; d < head_dim; ++d) {
          dq[at(q + d)] += dscore * in.k[at(row + d)];
          dk[at(row + d)] += dscore * in.q[at(q + d)];
          dv[at(row + d)] += w.p[s] * dy[at(q + d)];
        }
      }
    }
  }
  return {dq, dk, dv};
}

Array cached_attention(const Qkv& in, const CacheRows& rows, int64_t head_dim,
                       const AttentionAttrs& attrs) {
  const int64_t width = attrs.heads * head_dim, kv_width = attrs.kv_heads * head_dim;
  Array y(in.q.size());
  for (int64_t t = 0; t < length(rows.slots); ++t) {
    if (rows.slots[at(t)] < 0) continue;
    const int64_t first = static_cast<int64_t>(rows.slots[at(t)]) * rows.capacity;
    const int64_t last = first + static_cast<int64_t>(rows.positions[at(t)]);
    for (int64_t h = 0; h < attrs.heads; ++h) {
      const int64_t kv = h / (attrs.heads / attrs.kv_heads) * head_dim,
                    q = t * width + h * head_dim;
      const Weights w = weights_of(in.q.data() + q, {in.k.data() + kv, kv_width}, first, last,
                                   head_dim, attrs.scale);
      mix(w, {in.v.data() + kv, kv_width}, first, head_dim, y.data() + q);
    }
  }
  return y;
}

Array cache_write(const Array& cache, const Array& x, const CacheRows& rows, int64_t width) {
  Array after = cache;
  for (size_t t = 0; t < rows.slots.size(); ++t) {
    if (rows.slots[t] < 0) continue;
    const size_t row = at(rows.slots[t]) * at(rows.capacity) + at(rows.positions[t]);
    for (size_t d = 0; d < at(width); ++d) after[row * at(width) + d] = x[t * at(width) + d];
  }
  return after;
}

Arrays linear_cross_entropy(const Array& h, const Array& w, const Array& labels,
                            const Array& weights) {
  const size_t tokens = labels.size(), width = tokens == 0 ? 1 : h.size() / tokens,
               vocab = w.size() / width;
  Array nll(tokens);
  double loss = 0;
  for (size_t t = 0; t < tokens; ++t) {
    if (weights[t] == 0) continue;
    Array z(vocab);
    for (size_t v = 0; v < vocab; ++v) {
      for (size_t d = 0; d < width; ++d) z[v] += h[t * width + d] * w[v * width + d];
    }
    const double top = *std::max_element(z.begin(), z.end());
    double total = 0;
    for (double score : z) total += std::exp(score - top);
    nll[t] = top + std::log(total) - z[at(labels[t])];
    loss += weights[t] * nll[t];
  }
  return {{loss}, nll};
}

// Four elements share a counter (element / 4, micro step, step, stream); the key is the seed with
// the purpose.
Array dropout_mask(const Array& step, const DropoutMaskAttrs& attrs) {
  const std::array<uint32_t, 2> key = {static_cast<uint32_t>(attrs.seed),
                                       static_cast<uint32_t>(attrs.seed >> 32) ^ 0x02000000u};
  std::vector<uint32_t> words((static_cast<size_t>(attrs.elements) + 31) / 32);
  for (size_t i = 0; i < 32 * words.size(); ++i) {
    const std::array<uint32_t, 4> counter = {static_cast<uint32_t>(i / 4),
                                             static_cast<uint32_t>(step[1]),
                                             static_cast<uint32_t>(step[0]), attrs.stream};
    const bool kept =
        static_cast<double>(philox(counter, key)[i % 4]) >= std::floor(attrs.p * 4294967296.0);
    words[i / 32] |= static_cast<uint32_t>(kept) << i % 32;
  }
  Array mask;
  for (const uint32_t word : words) mask.push_back(static_cast<int32_t>(word));
  return mask;
}

Array dropout(const Array& x, const Array& mask, const DropoutAttrs& attrs) {
  Array y(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const auto word = static_cast<uint32_t>(static_cast<int32_t>(mask[i / 32]));
    y[i] = (word >> i % 32 & 1u) != 0 ? x[i] / (1 - attrs.p) : 0;
  }
  return y;
}

namespace {

// members[j * groups + c]: how often feature j belongs to group c.
Array membership(int64_t features, int64_t groups, const FoldAttrs& attrs) {
  Array members(at(features * groups));
  if (attrs.grouping == Grouping::strided) {
    int64_t end = features;
    while (attrs.padding == Padding::circular && end % groups != 0) ++end;
    for (int64_t p = 0; p < end; ++p) members[at(p % features * groups + p % groups)] += 1;
    return members;
  }
  int64_t feature = 0;
  for (int64_t c = 0; c < groups; ++c) {
    const int64_t size = features / groups + (c < features % groups ? 1 : 0);
    for (int64_t i = 0; i < size; ++i) members[at(feature++ * groups + c)] += 1;
  }
  return members;
}

}  // namespace

Array fold(const Array& x, int64_t features, const FoldAttrs& attrs) {
  const MatmulSize size{features == 0 ? 0 : length(x) / features, features, attrs.size};
  return matmul(x, membership(features, attrs.size, attrs), {}, size, {});
}

Array unfold(const Array& z, int64_t groups, const FoldAttrs& attrs) {
  const MatmulSize size{length(z) / groups, groups, attrs.size};
  return matmul(z, membership(attrs.size, groups, attrs), {}, size, {.tb = Transpose::yes});
}

Array resize(const Array& x, int64_t from, int64_t to) {
  Array y;
  for (int64_t t = 0; t < length(x) / from; ++t) {
    for (int64_t d = 0; d < to; ++d) y.push_back(d < from ? x[at(t * from + d)] : 0);
  }
  return y;
}

// As a matrix [features, blocks * width]: entry (j, o) is how much input feature j adds to output
// o.
Array rotate_blocks(const Array& x, const BlockTable& t, int64_t features,
                    const RotateBlocksAttrs& attrs) {
  const int64_t half = t.width / 2, total = t.blocks * t.width;
  Array matrix(at(features * total));
  for (int64_t o = 0; o < total; ++o) {
    const int64_t b = o / t.width, c = o % t.width;
    const double cosine = t.table[at(b * t.width + c % half)],
                 sine = t.table[at(b * t.width + half + c % half)];
    const int64_t partner = c < half ? o + half : o - half;
    matrix[at(o % features * total + o)] += cosine;
    matrix[at(partner % features * total + o)] += c < half ? -sine : sine;
  }
  if (attrs.direction == Direction::forward) {
    return matmul(x, matrix, {}, {length(x) / features, features, total}, {});
  }
  return matmul(x, matrix, {}, {length(x) / total, total, features}, {.tb = Transpose::yes});
}

Array row_norm(const Array& w, const Array& b, const Array& a, int64_t rank,
               const RowNormAttrs& attrs) {
  const int64_t rows = length(b) / rank, columns = length(a) / rank;
  Array norms;
  for (int64_t o = 0; o < rows; ++o) {
    double sum = 0;
    for (int64_t j = 0; j < columns; ++j) {
      double update = 0;
      for (int64_t k = 0; k < rank; ++k) update += b[at(o * rank + k)] * a[at(k * columns + j)];
      const double x = w[at(o * columns + j)] + attrs.scale * update;
      sum += x * x;
    }
    norms.push_back(std::sqrt(sum));
  }
  return norms;
}

// (m / n - 1) base + m / n low_rank, by column
Array dora(const DoraArrays& in) {
  Array y(in.base.size());
  for (size_t i = 0; i < y.size(); ++i) {
    const size_t n = i % in.norm.size();
    const double g = in.magnitude[n] / in.norm[n];
    y[i] = (g - 1) * in.base[i] + g * in.low_rank[i];
  }
  return y;
}

Arrays dora_grad(const DoraArrays& in, const Array& dy) {
  Array base(dy.size()), low_rank(dy.size()), magnitude(in.norm.size(), 0.0);
  for (size_t i = 0; i < dy.size(); ++i) {
    const size_t n = i % in.norm.size();
    const double g = in.magnitude[n] / in.norm[n];
    base[i] = (g - 1) * dy[i];
    low_rank[i] = g * dy[i];
    magnitude[n] += dy[i] * (in.base[i] + in.low_rank[i]) / in.norm[n];
  }
  return {base, low_rank, magnitude};
}

Arrays adamw(const Arrays& in, const AdamWAttrs& a) {
  Array p = in[0], m = in[2], v = in[3];
  const double norm = std::sqrt(in[4][0]), lr = in[5][0];
  if (!std::isfinite(norm)) return {p, m, v};
  for (size_t i = 0; i < p.size(); ++i) {
    double g = in[1][i];
    if (a.max_grad_norm > 0 && a.max_grad_norm < norm + 1e-6) g *= a.max_grad_norm / (norm + 1e-6);
    p[i] -= lr * a.weight_decay * p[i];
    m[i] = a.beta1 * m[i] + (1 - a.beta1) * g;
    v[i] = a.beta2 * v[i] + (1 - a.beta2) * g * g;
    p[i] -= lr * (m[i] / in[5][1]) / (std::sqrt(v[i] / in[5][2]) + a.eps);
  }
  return {p, m, v};
}

}  // namespace mora::testing::reference
