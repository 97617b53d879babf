// Attention of one new token per slot to the tokens of its own story. A slot reads no more keys than its story has, so its result
// does not depend on its neighbours, nor on how long their stories are.
#include <torch/extension.h>

#include <cmath>
#include <vector>

namespace {

// WIDTH is known to the compiler for common widths of a head; 0: it is `any_width`.
template <typename Number, int64_t WIDTH>
void attend_one(const Number* query, const Number* keys, const Number* values, Number* output, int64_t length, int64_t any_width,
                float scaling, float* q, float* scores, float* sum) {
  const int64_t width = WIDTH ? WIDTH : any_width;
  for (int64_t d = 0; d < width; ++d) q[d] = static_cast<float>(query[d]) * scaling;
  float most = -INFINITY;
  for (int64_t t = 0; t < length; ++t) {
    const Number* key = keys + t * width;
    float score = 0;
#pragma omp simd reduction(+ : score)
    for (int64_t d = 0; d < width; ++d) score += q[d] * static_cast<float>(key[d]);
    scores[t] = score;
    most = std::max(most, score);
  }
  float total = 0;
#pragma omp simd reduction(+ : total)
  for (int64_t t = 0; t < length; ++t) total += scores[t] = std::exp(scores[t] - most);
  for (int64_t d = 0; d < width; ++d) sum[d] = 0;
  for (int64_t t = 0; t < length; ++t) {
    const float weight = scores[t];
    const Number* value = values + t * width;
#pragma omp simd
    for (int64_t d = 0; d < width; ++d) sum[d] += weight * static_cast<float>(value[d]);
  }
  for (int64_t d = 0; d < width; ++d) output[d] = static_cast<Number>(sum[d] / total);
}

}  // namespace

// query: (slots, heads, D); keys, values: (slots, shared heads, length, D), all contiguous; lengths: int64 (slots).
torch::Tensor attend(const torch::Tensor& query, const torch::Tensor& keys, const torch::Tensor& values,
                     const torch::Tensor& lengths, double scaling) {
  TORCH_CHECK(query.is_contiguous() && keys.is_contiguous() && values.is_contiguous());
  auto output = torch::empty_like(query);
  const int64_t slots = query.size(0), heads = query.size(1), width = query.size(2);
  const int64_t shared = keys.size(1), room = keys.size(2), group = heads / shared;
  const int64_t* count = lengths.data_ptr<int64_t>();
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, query.scalar_type(), "attend", [&] {
    const scalar_t *q = query.data_ptr<scalar_t>(), *k = keys.data_ptr<scalar_t>(), *v = values.data_ptr<scalar_t>();
    scalar_t* out = output.data_ptr<scalar_t>();
    at::parallel_for(0, slots * shared, 1, [&](int64_t begin, int64_t end) {
      std::vector<float> buffer(room + 2 * width);
      for (int64_t at = begin; at < end; ++at)
        for (int64_t g = 0; g < group; ++g) {
          const int64_t head = (at / shared * heads + at % shared * group + g) * width, row = at * room * width;
          const auto one = width == 32   ? attend_one<scalar_t, 32>
                           : width == 64 ? attend_one<scalar_t, 64>
                                         : attend_one<scalar_t, 0>;
          one(q + head, k + row, v + row, out + head, count[at / shared], width, static_cast<float>(scaling), buffer.data(),
              buffer.data() + 2 * width, buffer.data() + width);
        }
    });
  });
  return output;
}

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) { module.def("attend", &attend); }
