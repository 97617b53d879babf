// Attention of one new token per slot to its own story, on a CPU. A slot reads its own story, nothing else: what it gives does not
// depend on its neighbours.
#include <torch/extension.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <optional>
#include <vector>

namespace {

// As many floats as a register of AVX2 has; where registers are smaller, the compiler takes several.
constexpr int64_t LANES = 8;
typedef float Lanes __attribute__((vector_size(LANES * sizeof(float))));

constexpr int64_t AT_ONCE = 4;  // keys that a query is multiplied with at once: one alone leaves a processor waiting

Lanes load(const float* from) {
  Lanes lanes;
  std::memcpy(&lanes, from, sizeof lanes);
  return lanes;
}

// Rows of numbers as floats: where they are, or in a copy.
const float* floats(const float* numbers, int64_t, float*) { return numbers; }

template <typename Number>
const float* floats(const Number* numbers, int64_t count, float* copy) {
  for (int64_t at = 0; at < count; ++at) copy[at] = static_cast<float>(numbers[at]);
  return copy;
}

// A query times each of COUNT keys.
template <int64_t WIDTH, int64_t COUNT>
void multiply(const float* query, const float* keys, float* scores) {
  Lanes sums[COUNT] = {};
  for (int64_t d = 0; d < WIDTH; d += LANES)
    for (int64_t k = 0; k < COUNT; ++k) sums[k] += load(query + d) * load(keys + k * WIDTH + d);
  for (int64_t k = 0; k < COUNT; ++k) {
    scores[k] = 0;
    for (int64_t lane = 0; lane < LANES; ++lane) scores[k] += sums[k][lane];
  }
}

// Replaces scores by numbers that are proportional to the weights of tokens; their sum.
float exponentials(float* scores, int64_t length) {
  float most = -FLT_MAX, total = 0;
#pragma omp simd reduction(max : most)
  for (int64_t t = 0; t < length; ++t) most = std::max(most, scores[t]);
#pragma omp simd reduction(+ : total)
  for (int64_t t = 0; t < length; ++t) total += scores[t] = std::exp(scores[t] - most);
  return total;
}

// One query to the keys and values of `length` tokens, which lie one behind the other; `scores` has room for as many.
template <typename Number, int64_t WIDTH>
void attend_one(const Number* query, const Number* keys, const Number* values, Number* output, int64_t length, int64_t,
                float scaling, float* scores) {
  float q[WIDTH], copy[AT_ONCE * WIDTH];
  for (int64_t d = 0; d < WIDTH; ++d) q[d] = static_cast<float>(query[d]) * scaling;
  int64_t t = 0;
  for (; t + AT_ONCE <= length; t += AT_ONCE)
    multiply<WIDTH, AT_ONCE>(q, floats(keys + t * WIDTH, AT_ONCE * WIDTH, copy), scores + t);
  for (; t < length; ++t) multiply<WIDTH, 1>(q, floats(keys + t * WIDTH, WIDTH, copy), scores + t);
  const float total = exponentials(scores, length);
  Lanes sums[WIDTH / LANES] = {};
  for (t = 0; t < length; ++t) {
    const float* value = floats(values + t * WIDTH, WIDTH, copy);
    for (int64_t d = 0; d < WIDTH; d += LANES) sums[d / LANES] += scores[t] * load(value + d);
  }
  for (int64_t d = 0; d < WIDTH; ++d) output[d] = static_cast<Number>(sums[d / LANES][d % LANES] / total);
}

// The same for heads of any width; `scores` has room for as many more.
template <typename Number>
void attend_any(const Number* query, const Number* keys, const Number* values, Number* output, int64_t length, int64_t width,
                float scaling, float* scores) {
  for (int64_t t = 0; t < length; ++t) {
    float score = 0;
    for (int64_t d = 0; d < width; ++d) score += static_cast<float>(query[d]) * static_cast<float>(keys[t * width + d]);
    scores[t] = score * scaling;
  }
  const float total = exponentials(scores, length);
  float* sums = scores + length;
  std::fill_n(sums, width, 0.0f);
  for (int64_t t = 0; t < length; ++t)
    for (int64_t d = 0; d < width; ++d) sums[d] += scores[t] * static_cast<float>(values[t * width + d]);
  for (int64_t d = 0; d < width; ++d) output[d] = static_cast<Number>(sums[d] / total);
}

template <typename Number>
auto attention_of(int64_t width) {
  return width == 32 ? attend_one<Number, 32> : width == 64 ? attend_one<Number, 64> : width == 128 ? attend_one<Number, 128>
                                                                                                     : attend_any<Number>;
}

}  // namespace

// One new token per slot. Its key and value are put in their place in the slot's rows, unless they are there already; then it
// attends to all tokens up to itself.
//   query: (slots, heads, D); key, value: (slots, shared heads, D) or None; heads lie one behind the other, slots may be apart.
//   keys, values: (slots, shared heads, room, D), contiguous; places: int64 (slots), where the new token stands.
torch::Tensor attend(const torch::Tensor& query, const std::optional<torch::Tensor>& key,
                     const std::optional<torch::Tensor>& value, torch::Tensor& keys, torch::Tensor& values,
                     const torch::Tensor& places, double scaling) {
  const int64_t slots = query.size(0), heads = query.size(1), width = query.size(2);
  const int64_t shared = keys.size(1), room = keys.size(2), group = heads / shared;
  for (const auto* one : {&query, key ? &*key : &query, value ? &*value : &query})
    TORCH_CHECK(one->stride(2) == 1 && one->stride(1) == width, "heads must lie one behind the other");
  TORCH_CHECK(keys.is_contiguous() && values.is_contiguous());
  auto output = torch::empty({slots, heads, width}, query.options());
  const int64_t* place = places.data_ptr<int64_t>();
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, query.scalar_type(), "attend", [&] {
    const scalar_t* q = query.data_ptr<scalar_t>();
    const scalar_t* new_k = key ? key->data_ptr<scalar_t>() : nullptr;
    const scalar_t* new_v = value ? value->data_ptr<scalar_t>() : nullptr;
    scalar_t *k = keys.data_ptr<scalar_t>(), *v = values.data_ptr<scalar_t>(), *out = output.data_ptr<scalar_t>();
    const auto attend_to = attention_of<scalar_t>(width);
    at::parallel_for(0, slots * shared, 1, [&](int64_t begin, int64_t end) {
      std::vector<float> scores(room + width);
      for (int64_t at = begin; at < end; ++at) {
        const int64_t slot = at / shared, head = at % shared, row = at * room * width, here = row + place[slot] * width;
        if (new_k) std::copy_n(new_k + slot * key->stride(0) + head * width, width, k + here);
        if (new_v) std::copy_n(new_v + slot * value->stride(0) + head * width, width, v + here);
        for (int64_t g = 0; g < group; ++g) {
          const int64_t asks = (head * group + g) * width;
          attend_to(q + slot * query.stride(0) + asks, k + row, v + row, out + slot * heads * width + asks, place[slot] + 1, width,
                    static_cast<float>(scaling), scores.data());
        }
      }
    });
  });
  return output;
}
