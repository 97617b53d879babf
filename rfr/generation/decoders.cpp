// GPT-2's and Llama's forward pass for one new token per slot, in one call: to call a tiny model's modules one by one takes longer
// than to compute them, and several threads would wait for Python's lock in between.
#include <torch/extension.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <string_view>
#include <vector>

using Tensors = std::vector<torch::Tensor>;

torch::Tensor attend(const torch::Tensor& query, const std::optional<torch::Tensor>& key,
                     const std::optional<torch::Tensor>& value, torch::Tensor& keys, torch::Tensor& values,
                     const torch::Tensor& places, double scaling);

namespace {

using LinearPointwise = torch::Tensor(const torch::Tensor&, const torch::Tensor&, const std::optional<torch::Tensor>&,
                                      std::string_view, c10::List<std::optional<at::Scalar>>, std::optional<std::string_view>);

// x times a packed matrix, plus a bias. What torch.compile calls for weights that stay as they are.
torch::Tensor packed_linear(const torch::Tensor& x, const torch::Tensor& matrix, const std::optional<torch::Tensor>& bias) {
  static const auto operation =
      c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_linear_pointwise", "").typed<LinearPointwise>();
  return operation.call(x, matrix, bias, "none", c10::List<std::optional<at::Scalar>>(), "");
}

// x times a matrix that is packed, or the transpose of one that is stored as (in, out), plus a bias. A few rows times such a matrix
// are faster the other way round.
torch::Tensor product(const torch::Tensor& x, const torch::Tensor& matrix, const torch::Tensor& bias) {
  return matrix.is_mkldnn() ? packed_linear(x, matrix, bias) : at::mm(matrix, x.t()).t().contiguous().add_(bias);
}

torch::Tensor heads_of(const torch::Tensor& x, int64_t width) { return x.unflatten(1, {-1, width}); }

constexpr int64_t WORTH_SHARING = 32768;  // numbers; less work is done before another thread has begun with it
constexpr float SHUT = 80;                // a gate this far below 0 lets nothing through; -ffast-math can't divide by infinity

template <typename Work>
void each_row(int64_t rows, int64_t width, const Work& work) {
  at::parallel_for(0, rows, std::max<int64_t>(1, WORTH_SHARING / width), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) work(row);
  });
}

// The three parts of Llama below are at:: calls that each read and write tensors several times, here once. Numbers that have fewer
// bits than a float are rounded at the end.
#define WITH_NUMBERS_OF(x, ...) \
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, (x).scalar_type(), __func__, __VA_ARGS__)

// Root mean square norm (Zhang and Sennrich 2019); x: (slots, D).
torch::Tensor rms_norm(const torch::Tensor& x, const torch::Tensor& weight, double epsilon) {
  auto out = torch::empty_like(x);
  const int64_t width = x.size(1);
  WITH_NUMBERS_OF(x, [&] {
    const scalar_t *numbers = x.data_ptr<scalar_t>(), *w = weight.data_ptr<scalar_t>();
    scalar_t* normed = out.data_ptr<scalar_t>();
    each_row(x.size(0), width, [&](int64_t row) {
      const scalar_t* from = numbers + row * width;
      scalar_t* to = normed + row * width;
      float squares = 0;
      for (int64_t d = 0; d < width; ++d) squares += static_cast<float>(from[d]) * static_cast<float>(from[d]);
      const float scale = static_cast<float>(1 / std::sqrt(squares / static_cast<double>(width) + epsilon));
      for (int64_t d = 0; d < width; ++d)
        to[d] = static_cast<scalar_t>(static_cast<float>(from[d]) * scale * static_cast<float>(w[d]));
    });
  });
  return out;
}

// Rotary positions (Su et al. 2021) as Llama has them; x: (slots, heads, D), contiguous; cos and sin: (slots, 1, D).
torch::Tensor turned(const torch::Tensor& x, const torch::Tensor& cos, const torch::Tensor& sin) {
  auto out = torch::empty_like(x);
  const int64_t heads = x.size(1), width = x.size(2), half = width / 2;
  WITH_NUMBERS_OF(x, [&] {
    const scalar_t *numbers = x.data_ptr<scalar_t>(), *all_cos = cos.data_ptr<scalar_t>(), *all_sin = sin.data_ptr<scalar_t>();
    scalar_t* all_turned = out.data_ptr<scalar_t>();
    each_row(x.size(0) * heads, width, [&](int64_t row) {
      const scalar_t *one = numbers + row * width, *other = one + half;
      const scalar_t *c = all_cos + row / heads * width, *s = all_sin + row / heads * width;
      scalar_t* to = all_turned + row * width;
      for (int64_t d = 0; d < half; ++d) {
        const float a = one[d], b = other[d];
        to[d] = static_cast<scalar_t>(a * static_cast<float>(c[d]) - b * static_cast<float>(s[d]));
        to[half + d] = static_cast<scalar_t>(b * static_cast<float>(c[half + d]) + a * static_cast<float>(s[half + d]));
      }
    });
  });
  return out;
}

// silu(gate) * up (Shazeer 2020); both (slots, D).
torch::Tensor gated(const torch::Tensor& gate, const torch::Tensor& up) {
  auto out = torch::empty_like(gate);
  const int64_t width = gate.size(1);
  WITH_NUMBERS_OF(gate, [&] {
    const scalar_t *g = gate.data_ptr<scalar_t>(), *u = up.data_ptr<scalar_t>();
    scalar_t* to = out.data_ptr<scalar_t>();
    each_row(gate.size(0), width, [&](int64_t row) {
      for (int64_t at = row * width; at < (row + 1) * width; ++at) {
        const float x = g[at];
        to[at] = static_cast<scalar_t>(x / (1 + std::exp(std::min(-x, SHUT))) * static_cast<float>(u[at]));
      }
    });
  });
  return out;
}

}  // namespace

// x times a matrix (out, in), which may be packed, plus a bias.
torch::Tensor affine(const torch::Tensor& x, const torch::Tensor& matrix, const std::optional<torch::Tensor>& bias) {
  return matrix.is_mkldnn() ? packed_linear(x, matrix, bias) : at::linear(x, matrix, bias);
}

// ids, places: int64 (slots). ends: the embedding of tokens and of positions, the last norm's weight and bias. layers: 12 tensors
// each, as `written_out.py` lists them. Gives hidden states, (slots, D).
torch::Tensor gpt2(const torch::Tensor& ids, const torch::Tensor& places, const Tensors& ends, const std::vector<Tensors>& layers,
                   Tensors& keys, Tensors& values, int64_t head_width, double epsilon, const std::vector<double>& scalings) {
  const c10::InferenceMode inference;
  auto x = ends[0].index_select(0, ids) + ends[1].index_select(0, places);
  const std::vector<int64_t> width{x.size(1)};
  for (size_t l = 0; l < layers.size(); ++l) {
    const auto& w = layers[l];
    const auto qkv = product(at::layer_norm(x, width, w[0], w[1], epsilon), w[2], w[3]).chunk(3, 1);
    const auto attended = attend(heads_of(qkv[0], head_width), heads_of(qkv[1], head_width), heads_of(qkv[2], head_width), keys[l],
                                 values[l], places, scalings[l]);
    x = x + product(attended.flatten(1), w[4], w[5]);
    const auto inner = at::gelu(product(at::layer_norm(x, width, w[6], w[7], epsilon), w[8], w[9]), "tanh");
    x = x + product(inner, w[10], w[11]);
  }
  return at::layer_norm(x, width, ends[2], ends[3], epsilon);
}

// ends: the embedding of tokens, the last norm's weight. layers: 9 weights each, then as many of the first seven's biases as there
// are. cos, sin: (slots, 1, D).
torch::Tensor llama(const torch::Tensor& ids, const torch::Tensor& places, const torch::Tensor& cos, const torch::Tensor& sin,
                    const Tensors& ends, const std::vector<Tensors>& layers,
                    const std::vector<std::vector<std::optional<torch::Tensor>>>& biases, Tensors& keys, Tensors& values,
                    int64_t head_width, double epsilon, double scaling) {
  const c10::InferenceMode inference;
  auto x = ends[0].index_select(0, ids);
  for (size_t l = 0; l < layers.size(); ++l) {
    const auto& w = layers[l];
    const auto& b = biases[l];
    const auto h = rms_norm(x, w[7], epsilon);
    const auto q = turned(heads_of(affine(h, w[0], b[0]), head_width), cos, sin);
    const auto k = turned(heads_of(affine(h, w[1], b[1]), head_width), cos, sin);
    const auto v = heads_of(affine(h, w[2], b[2]), head_width);
    x = x + affine(attend(q, k, v, keys[l], values[l], places, scaling).flatten(1), w[3], b[3]);
    const auto g = rms_norm(x, w[8], epsilon);
    x = x + affine(gated(affine(g, w[4], b[4]), affine(g, w[5], b[5])), w[6], b[6]);
  }
  return rms_norm(x, ends[1], epsilon);
}
