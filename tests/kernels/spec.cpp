#include "tests/kernels/spec.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numbers>

namespace samba::test::spec {
namespace {

double silu(double x) { return x / (1 + std::exp(-x)); }
double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }

}  // namespace

Doubles rmsnorm(const Matrix& x, const Matrix& weight, double eps) {
    Doubles y;
    for (int64_t i = 0; i < x.rows; ++i) {
        double sum = 0;
        for (int64_t j = 0; j < x.cols; ++j) sum += double{x.row(i)[j]} * x.row(i)[j];
        double scale = 1 / std::sqrt(sum / static_cast<double>(x.cols) + eps);
        for (int64_t j = 0; j < x.cols; ++j) y.push_back(x.row(i)[j] * scale * weight.row(0)[j]);
    }
    return y;
}

Doubles silu_mul(const Matrix& gate_up) {
    Doubles h;
    int64_t d = gate_up.cols / 2;
    for (int64_t i = 0; i < gate_up.rows; ++i) {
        for (int64_t j = 0; j < d; ++j) h.push_back(silu(gate_up.row(i)[j]) * gate_up.row(i)[d + j]);
    }
    return h;
}

void rope(int64_t position, int dim, double theta, Doubles& cos, Doubles& sin) {
    cos.clear();
    sin.clear();
    for (int i = 0; i < dim / 2; ++i) {
        long double angle = position * std::pow(static_cast<long double>(theta), -2.0L * i / dim);
        cos.push_back(static_cast<double>(std::cos(angle)));
        sin.push_back(static_cast<double>(std::sin(angle)));
    }
}

Doubles head(std::span<const float> x, std::span<const float> norm, double eps, const Doubles& cos,
             const Doubles& sin) {
    Doubles y(x.begin(), x.end());
    if (!norm.empty()) {
        double sum = 0;
        for (double v : y) sum += v * v;
        for (size_t i = 0; i < y.size(); ++i) y[i] *= norm[i] / std::sqrt(sum / static_cast<double>(y.size()) + eps);
    }
    for (size_t i = 0; i < cos.size(); ++i) {
        double a = y[i], b = y[i + cos.size()];
        y[i] = a * cos[i] - b * sin[i];
        y[i + cos.size()] = a * sin[i] + b * cos[i];
    }
    return y;
}

Doubles conv_silu(const Matrix& u, const Matrix& taps, std::span<const float> bias) {
    Doubles y;
    for (int64_t t = 0; t < u.rows; ++t) {
        for (int64_t c = 0; c < u.cols; ++c) {
            double sum = bias.empty() ? 0 : bias[static_cast<size_t>(c)];
            for (int64_t j = 0; j < taps.cols; ++j) {
                int64_t row = t - (taps.cols - 1) + j;
                if (row >= 0) sum += double{taps.row(c)[j]} * u.row(row)[c];
            }
            y.push_back(silu(sum));
        }
    }
    return y;
}

ScanOutput scan(const ScanInput& in) {
    ScanOutput out;
    int64_t d_inner = in.u.cols, d_state = in.B.cols;
    Doubles S(static_cast<size_t>(d_inner * d_state));
    for (int64_t t = 0; t < in.u.rows; ++t) {
        for (int64_t d = 0; d < d_inner; ++d) {
            double dt = softplus(in.dt.row(t)[d]), u = in.u.row(t)[d], y = u * in.D.row(0)[d];
            for (int64_t n = 0; n < d_state; ++n) {
                double& s = S[static_cast<size_t>(d * d_state + n)];
                s = std::exp(dt * in.A.row(d)[n]) * s + dt * in.B.row(t)[n] * u;
                y += in.C.row(t)[n] * s;
            }
            out.y.push_back(y * silu(in.z.row(t)[d]));
        }
        out.states.push_back(S);
    }
    return out;
}

DecayInput decay_input(int64_t n, int n_heads, int key_dim, int value_dim, bool gated) {
    DecayInput in;
    in.n_heads = n_heads;
    in.q = random_matrix(n, int64_t{n_heads} * key_dim, 81);
    in.k = random_matrix(n, int64_t{n_heads} * key_dim, 82);
    in.v = random_matrix(n, int64_t{n_heads} * value_dim, 83);
    if (gated) in.gates = random_matrix(n, int64_t{n_heads} * key_dim, 84, 6.0f);
    in.head_decay = Matrix(1, n_heads);
    for (int h = 0; h < n_heads; ++h) in.head_decay.row(0)[h] = 1 - std::ldexp(1.0f, -5 - h);
    return in;
}

ScanOutput decay(const DecayInput& in) {
    ScanOutput out;
    int64_t keys = in.q.cols / in.n_heads, values = in.v.cols / in.n_heads;
    Doubles S(static_cast<size_t>(in.n_heads * keys * values));
    for (int64_t t = 0; t < in.q.rows; ++t) {
        for (int64_t h = 0; h < in.n_heads; ++h) {
            Doubles y(static_cast<size_t>(values));
            for (int64_t i = 0; i < keys; ++i) {
                double a = in.gates.rows > 0 ? std::exp(-softplus(-in.gates.row(t)[h * keys + i]) / 16)
                                             : in.head_decay.row(0)[h];
                for (int64_t j = 0; j < values; ++j) {
                    double& s = S[static_cast<size_t>((h * keys + i) * values + j)];
                    s = a * s + double{in.k.row(t)[h * keys + i]} * in.v.row(t)[h * values + j];
                    y[static_cast<size_t>(j)] += in.q.row(t)[h * keys + i] * s / std::sqrt(static_cast<double>(keys));
                }
            }
            out.y.insert(out.y.end(), y.begin(), y.end());
        }
        out.states.push_back(S);
    }
    return out;
}

Doubles head_norm_gate(const Matrix& y, const Matrix& weight, const Matrix& gate, double eps) {
    Doubles out;
    for (int64_t t = 0; t < y.rows; ++t) {
        for (int64_t c = 0; c < y.cols; ++c) {
            int64_t first = c / weight.cols * weight.cols;
            double sum = 0;
            for (int64_t i = first; i < first + weight.cols; ++i) sum += double{y.row(t)[i]} * y.row(t)[i];
            double scale = 1 / std::sqrt(sum / static_cast<double>(weight.cols) + eps);
            out.push_back(y.row(t)[c] * scale * weight.row(0)[c - first] * silu(gate.row(t)[c]));
        }
    }
    return out;
}

Doubles attention(const Matrix& q, const Matrix& k, const Matrix& v, int head_dim, int64_t window, int64_t position) {
    int64_t n_heads = q.cols / head_dim, n_kv_heads = k.cols / head_dim;
    int64_t first = window == 0 ? 0 : std::max<int64_t>(0, position - window + 1);
    Doubles y(static_cast<size_t>(q.cols));
    for (int64_t h = 0; h < n_heads; ++h) {
        int64_t kv = h / (n_heads / n_kv_heads) * head_dim;
        Doubles scores;
        for (int64_t j = first; j <= position; ++j) {
            double dot = 0;
            for (int d = 0; d < head_dim; ++d) dot += double{q.row(position)[h * head_dim + d]} * k.row(j)[kv + d];
            scores.push_back(dot / std::sqrt(static_cast<double>(head_dim)));
        }
        double max = *std::max_element(scores.begin(), scores.end()), sum = 0;
        for (double& s : scores) sum += s = std::exp(s - max);
        for (int64_t j = first; j <= position; ++j) {
            double p = scores[static_cast<size_t>(j - first)] / sum;
            for (int d = 0; d < head_dim; ++d) y[static_cast<size_t>(h * head_dim + d)] += p * v.row(j)[kv + d];
        }
    }
    return y;
}

MegaKeysOutput mega_keys(const Matrix& z, const Matrix& scale, const Matrix& shift, const Matrix& bias_q,
                         const Matrix& bias_k) {
    MegaKeysOutput out;
    Doubles cos, sin;
    int64_t dim = z.cols;
    for (int64_t t = 0; t < z.rows; ++t) {
        rope(t, static_cast<int>(dim), 10000, cos, sin);
        for (int side = 0; side < 2; ++side) {
            Doubles& to = side ? out.k : out.q;
            for (int64_t i = 0; i < dim; ++i) to.push_back(silu(z.row(t)[i]) * scale.row(side)[i] + shift.row(side)[i]);
            const Matrix& bias = side ? bias_k : bias_q;
            for (double b : head(std::span(bias.row(0), static_cast<size_t>(dim)), {}, 0, cos, sin)) {
                to.push_back(side ? b : b * std::sqrt(static_cast<double>(dim)));
            }
        }
    }
    return out;
}

Doubles chunk_attention(const Matrix& q, const Matrix& k, const Matrix& v, int64_t chunk, double scale) {
    Doubles y;
    for (int64_t t = 0; t < q.rows; ++t) {
        Doubles scores, row(static_cast<size_t>(v.cols));
        int64_t first = t / chunk * chunk;
        for (int64_t j = first; j <= t; ++j) {
            double dot = 0;
            for (int64_t d = 0; d < q.cols; ++d) dot += double{q.row(t)[d]} * k.row(j)[d];
            scores.push_back(dot * scale);
        }
        double max = *std::max_element(scores.begin(), scores.end()), sum = 0;
        for (double& s : scores) sum += s = std::exp(s - max);
        for (int64_t j = first; j <= t; ++j) {
            for (int64_t d = 0; d < v.cols; ++d)
                row[static_cast<size_t>(d)] += scores[static_cast<size_t>(j - first)] / sum * v.row(j)[d];
        }
        y.insert(y.end(), row.begin(), row.end());
    }
    return y;
}

Doubles gated_residual(const Matrix& u, const Matrix& h0, const Matrix& h, const Matrix& x) {
    Doubles y;
    for (size_t i = 0; i < x.values.size(); ++i) {
        double made = silu(double{h0.values[i]} + h.values[i]), old = x.values[i];
        y.push_back(old + (made - old) / (1 + std::exp(-double{u.values[i]})));
    }
    return y;
}

Doubles silu(const Matrix& x) {
    Doubles y;
    for (float v : x.values) y.push_back(silu(double{v}));
    return y;
}

Doubles log_softmax(std::span<const float> logits) {
    double max = *std::max_element(logits.begin(), logits.end()), sum = 0;
    for (float x : logits) sum += std::exp(x - max);
    Doubles y;
    for (float x : logits) y.push_back(x - max - std::log(sum));
    return y;
}

std::vector<std::pair<int32_t, double>> candidates(std::span<const float> logits, const SamplingParams& params,
                                                   std::span<const int32_t> recent) {
    Doubles x(logits.begin(), logits.end());
    for (auto [id, bias] : params.logit_bias) x[static_cast<size_t>(id)] += bias;
    std::map<int32_t, int> counts;
    for (int32_t id : recent) ++counts[id];
    for (auto [id, n] : counts) {
        double& l = x[static_cast<size_t>(id)];
        l = l > 0 ? l / params.repeat_penalty : l * params.repeat_penalty;
        l -= n * double{params.frequency_penalty} + double{params.presence_penalty};
    }
    std::vector<std::pair<int32_t, double>> all;
    for (size_t i = 0; i < x.size(); ++i) {
        if (x[i] > -std::numeric_limits<double>::infinity()) all.emplace_back(static_cast<int32_t>(i), x[i]);
    }
    std::stable_sort(all.begin(), all.end(), [](auto& a, auto& b) { return a.second > b.second; });
    size_t k = params.temp == 0 ? 1 : params.top_k > 0 ? static_cast<size_t>(params.top_k) : all.size();
    all.resize(std::min(k, all.size()));
    auto softmax = [&](double temp) {
        double max = all.front().second, sum = 0;
        Doubles p;
        for (auto& c : all) p.push_back(std::exp((c.second - max) / temp));
        for (double v : p) sum += v;
        for (double& v : p) v /= sum;
        return p;
    };
    Doubles p = softmax(1);
    size_t keep = 0;
    for (double sum = 0; keep < p.size() && sum < params.top_p; ++keep) sum += p[keep];
    if (params.top_p < 1) all.resize(std::max<size_t>(1, keep));
    p = softmax(1);
    keep = 0;
    while (keep < p.size() && p[keep] >= params.min_p * p[0]) ++keep;
    all.resize(std::max<size_t>(1, keep));
    p = params.temp == 0 ? Doubles{1} : softmax(params.temp);
    for (size_t i = 0; i < all.size(); ++i) all[i].second = p[i];
    return all;
}

}  // namespace samba::test::spec
