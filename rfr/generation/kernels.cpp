// Draws the next token of each slot on a CPU, and lists all compiled functions. A slot reads its own logits, nothing else: what
// it gives does not depend on its neighbours.
#include <torch/extension.h>

#include <algorithm>
#include <array>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <optional>
#include <vector>

namespace {

constexpr float LEAST = -1e30f;   // in the place of logits of minus infinity, with which -ffast-math can't compute
constexpr int64_t BLOCK = 64;     // tokens whose probabilities are added up first
constexpr int BUCKETS = 1024;     // of positive floats up to 1, by exponent and three bits of the mantissa
constexpr int BUCKET_SHIFT = 20;  // bits of a float below these

struct Kept {
  float least = 0;                // probabilities below are left out
  int64_t ties = INT64_MAX;       // so many of those that equal it are kept, the first ones
};

int bucket_of(float p) {
  uint32_t bits;
  std::memcpy(&bits, &p, sizeof bits);
  return static_cast<int>(bits >> BUCKET_SHIFT);
}

// The largest `count` of the probabilities.
Kept largest(const std::vector<float>& p, int64_t count, std::vector<float>& work) {
  work.assign(p.begin(), p.end());
  std::nth_element(work.begin(), work.begin() + (count - 1), work.end(), std::greater<float>());
  Kept kept{work[count - 1], 0};
  int64_t above = 0;
  for (const float one : p) above += one > kept.least;
  kept.ties = count - above;
  return kept;
}

// The fewest of the largest probabilities whose sum reaches `mass`. Only those of one bucket are sorted.
Kept nucleus(const std::vector<float>& p, double mass, std::vector<float>& work) {
  std::array<double, BUCKETS> sums{};
  for (const float one : p) sums[bucket_of(one)] += one;
  int bucket = BUCKETS - 1;
  double above = 0;
  while (bucket > 0 && above + sums[bucket] < mass) above += sums[bucket--];
  work.clear();
  for (const float one : p)
    if (bucket_of(one) == bucket && one > 0) work.push_back(one);
  if (work.empty()) return {};  // rounding: all are kept
  std::sort(work.begin(), work.end(), std::greater<float>());
  size_t last = 0;
  while (last + 1 < work.size() && (above += work[last]) < mass) ++last;
  Kept kept{work[last], 1};
  for (size_t before = last; before > 0 && work[before - 1] == kept.least; --before) ++kept.ties;
  return kept;
}

// Puts 0 in the place of those that are not kept.
void leave_out(std::vector<float>& p, Kept kept) {
  int64_t equal = 0;
  for (float& one : p) {
    equal += one == kept.least;
    if (one < kept.least) one = 0;
  }
  for (auto one = p.end(); equal > kept.ties && one != p.begin();)
    if (*--one == kept.least) *one = 0, --equal;
}

double sum_of(const float* p, int64_t count) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t at = 0; at < count; ++at) sum += p[at];
  return sum;
}

// The first token at which the sum of the probabilities passes `share` of it all; and that sum.
std::pair<int64_t, double> inverse_cdf(const std::vector<float>& p, double share, std::vector<double>& sums) {
  const int64_t size = static_cast<int64_t>(p.size());
  sums.clear();
  double total = 0;
  for (int64_t begin = 0; begin < size; begin += BLOCK) sums.push_back(total += sum_of(&p[begin], std::min(BLOCK, size - begin)));
  const double target = share * total;
  int64_t block = 0;
  while (block + 1 < static_cast<int64_t>(sums.size()) && sums[block] <= target) ++block;
  double so_far = block ? sums[block - 1] : 0;
  int64_t chosen = -1;
  for (int64_t at = block * BLOCK; at < std::min(size, (block + 1) * BLOCK); ++at) {
    if (p[at] > 0) chosen = at;  // rounding never leads to a token that can't be drawn
    if ((so_far += p[at]) > target && p[at] > 0) break;
  }
  if (chosen < 0)
    for (chosen = block * BLOCK; chosen > 0 && !(p[chosen] > 0);) --chosen;
  return {chosen, total};
}

struct Work {
  std::vector<float> logits, p, selected;
  std::vector<double> sums;
};

// A token from one row of logits: its id, and its log-probability at temperature 1 and in the distribution that was left.
template <typename Number>
std::tuple<int64_t, float, float> draw_one(const Number* row, int64_t size, double uniform, double temperature, int64_t top_k,
                                           double top_p, Work& work) {
  auto& [logits, p, selected, sums] = work;
  logits.resize(size);
  p.resize(size);
  float most = LEAST;
  for (int64_t v = 0; v < size; ++v) logits[v] = std::max(static_cast<float>(row[v]), LEAST);
#pragma omp simd reduction(max : most)
  for (int64_t v = 0; v < size; ++v) most = std::max(most, logits[v]);
#pragma omp simd
  for (int64_t v = 0; v < size; ++v) p[v] = std::exp(logits[v] - most);
  const double total_of_policy = sum_of(p.data(), size);
  if (temperature != 1) {
    const float inverse = static_cast<float>(1 / temperature);
#pragma omp simd
    for (int64_t v = 0; v < size; ++v) p[v] = std::exp((logits[v] - most) * inverse);
  }
  if (top_k > 0 && top_k < size) leave_out(p, largest(p, top_k, selected));
  if (top_p < 1) leave_out(p, nucleus(p, top_p * sum_of(p.data(), size), selected));
  const auto [id, total] = inverse_cdf(p, uniform, sums);
  const float policy = static_cast<float>(logits[id] - most - std::log(total_of_policy));
  return {id, policy, static_cast<float>((logits[id] - most) / temperature - std::log(total))};
}

}  // namespace

// logits: (slots, V); uniforms: float64 (slots). Gives ids, log-probabilities of the policy, and those of the drawn distribution.
std::vector<torch::Tensor> draw(const torch::Tensor& logits, const torch::Tensor& uniforms, double temperature, int64_t top_k,
                                double top_p) {
  TORCH_CHECK(logits.is_contiguous());
  const int64_t slots = logits.size(0), size = logits.size(1);
  auto ids = torch::empty({slots}, torch::kInt64);
  auto policy = torch::empty({slots}, torch::kFloat32), drawn = torch::empty({slots}, torch::kFloat32);
  const double* u = uniforms.data_ptr<double>();
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, logits.scalar_type(), "draw", [&] {
    const scalar_t* row = logits.data_ptr<scalar_t>();
    at::parallel_for(0, slots, 1, [&](int64_t begin, int64_t end) {
      Work work;
      for (int64_t at = begin; at < end; ++at)
        std::tie(ids.data_ptr<int64_t>()[at], policy.data_ptr<float>()[at], drawn.data_ptr<float>()[at]) =
            draw_one(row + at * size, size, u[at], temperature, top_k, top_p, work);
    });
  });
  return {ids, policy, drawn};
}

torch::Tensor attend(const torch::Tensor&, const std::optional<torch::Tensor>&, const std::optional<torch::Tensor>&, torch::Tensor&,
                     torch::Tensor&, const torch::Tensor&, double);
torch::Tensor gpt2(const torch::Tensor&, const torch::Tensor&, const std::vector<torch::Tensor>&,
                   const std::vector<std::vector<torch::Tensor>>&, std::vector<torch::Tensor>&, std::vector<torch::Tensor>&, int64_t,
                   double, const std::vector<double>&);
torch::Tensor llama(const torch::Tensor&, const torch::Tensor&, const torch::Tensor&, const torch::Tensor&,
                    const std::vector<torch::Tensor>&, const std::vector<std::vector<torch::Tensor>>&,
                    const std::vector<std::vector<std::optional<torch::Tensor>>>&, std::vector<torch::Tensor>&,
                    std::vector<torch::Tensor>&, int64_t, double, double);

torch::Tensor affine(const torch::Tensor&, const torch::Tensor&, const std::optional<torch::Tensor>&);

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  using without_lock = pybind11::call_guard<pybind11::gil_scoped_release>;
  module.def("attend", &attend, without_lock());
  module.def("draw", &draw, without_lock());
  module.def("gpt2", &gpt2, without_lock());
  module.def("llama", &llama, without_lock());
  module.def("affine", &affine, without_lock());
}
