// GPT-2's and Llama's forward pass for one new token per slot, in one call: to call a tiny model's modules one by one takes longer
// than to compute them, and several threads would wait for Python's lock in between.
#include <torch/extension.h>

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

// Rotary positions (Su et al. 2021) as Llama has them; x: (slots, heads, D), cos and sin: (slots, 1, D).
torch::Tensor turned(const torch::Tensor& x, const torch::Tensor& cos, const torch::Tensor& sin) {
  const auto halves = x.chunk(2, -1);
  return x * cos + at::cat({-halves[1], halves[0]}, -1) * sin;
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
  const std::vector<int64_t> width{x.size(1)};
  for (size_t l = 0; l < layers.size(); ++l) {
    const auto& w = layers[l];
    const auto& b = biases[l];
    const auto h = at::rms_norm(x, width, w[7], epsilon);
    const auto q = turned(heads_of(affine(h, w[0], b[0]), head_width), cos, sin);
    const auto k = turned(heads_of(affine(h, w[1], b[1]), head_width), cos, sin);
    const auto v = heads_of(affine(h, w[2], b[2]), head_width);
    x = x + affine(attend(q, k, v, keys[l], values[l], places, scaling).flatten(1), w[3], b[3]);
    const auto g = at::rms_norm(x, width, w[8], epsilon);
    x = x + affine(at::silu(affine(g, w[4], b[4])) * affine(g, w[5], b[5]), w[6], b[6]);
  }
  return at::rms_norm(x, width, ends[1], epsilon);
}
