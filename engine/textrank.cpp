#include "engine/textrank.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>

namespace samba {
namespace {

constexpr double kDamping = 0.85;
constexpr int kIterations = 50;

// Sentences as word numbers with their counts, in ascending order.
struct Counted {
    int word;
    double count;
};
struct Bags {
    std::vector<std::vector<Counted>> sentences;
    std::vector<double> sentences_with;  // a word
};

Bags count_words_of(std::span<const Stems> sentences) {
    Bags bags;
    std::unordered_map<std::string, int> numbers;
    for (const Stems& stems : sentences) {
        std::vector<int> words;
        for (const std::string& stem : stems) {
            words.push_back(numbers.try_emplace(stem, static_cast<int>(numbers.size())).first->second);
        }
        std::sort(words.begin(), words.end());
        std::vector<Counted> bag;
        for (int w : words) {
            if (bag.empty() || bag.back().word != w) bag.push_back({w, 0});
            ++bag.back().count;
        }
        bags.sentences.push_back(std::move(bag));
    }
    bags.sentences_with.assign(numbers.size(), 0);
    for (const auto& bag : bags.sentences) {
        for (const Counted& c : bag) ++bags.sentences_with[static_cast<size_t>(c.word)];
    }
    return bags;
}

// Sum of f(count in a, count in b) over the words that both have.
template <class F>
double over_common(const std::vector<Counted>& a, const std::vector<Counted>& b, F f) {
    double sum = 0;
    for (size_t i = 0, j = 0; i < a.size() && j < b.size();) {
        if (a[i].word == b[j].word) {
            sum += f(a[i++].count, b[j++].count);
        } else if (a[i].word < b[j].word) {
            ++i;
        } else {
            ++j;
        }
    }
    return sum;
}

// PageRank on a symmetric measure of two sentences.
template <class Alike>
std::vector<double> rank(size_t n, Alike alike) {
    std::vector<double> weights(n * n, 0.0);
    for (size_t i = 0; i < n; ++i) {
        for (size_t j = i + 1; j < n; ++j) weights[i * n + j] = weights[j * n + i] = alike(i, j);
    }
    return page_rank(std::move(weights), n);
}

}  // namespace

std::vector<double> page_rank(std::vector<double> weights, size_t n) {
    for (size_t i = 0; i < n; ++i) {
        double* row = weights.data() + i * n;
        row[i] = 0;
        double sum = 0;
        for (size_t j = 0; j < n; ++j) sum += row[j];
        for (size_t j = 0; j < n && sum > 0; ++j) row[j] /= sum;
    }
    std::vector<double> rank(n, n > 0 ? 1.0 / static_cast<double>(n) : 0.0), next(n);
    for (int iteration = 0; iteration < kIterations; ++iteration) {
        std::fill(next.begin(), next.end(), (1 - kDamping) / static_cast<double>(n));
        for (size_t i = 0; i < n; ++i) {
            const double* row = weights.data() + i * n;
            double passed = kDamping * rank[i];
            for (size_t j = 0; j < n; ++j) next[j] += passed * row[j];
        }
        rank.swap(next);
    }
    return rank;
}

std::vector<double> textrank_cosine(std::span<const Stems> sentences) {
    Bags bags = count_words_of(sentences);
    size_t n = sentences.size();
    std::vector<double> lengths(n);
    for (size_t i = 0; i < n; ++i) {
        double squares = 0;
        for (Counted& c : bags.sentences[i]) {  // counts become tf · idf
            c.count *= std::log((1.0 + static_cast<double>(n)) / bags.sentences_with[static_cast<size_t>(c.word)]);
            squares += c.count * c.count;
        }
        lengths[i] = std::sqrt(squares);
    }
    return rank(n, [&](size_t i, size_t j) {
        double product = over_common(bags.sentences[i], bags.sentences[j], [](double a, double b) { return a * b; });
        return product > 0 ? product / (lengths[i] * lengths[j]) : 0.0;
    });
}

std::vector<double> textrank_overlap(std::span<const Stems> sentences) {
    Bags bags = count_words_of(sentences);
    auto size = [&](size_t i) { return std::log(static_cast<double>(sentences[i].size()) + 1); };
    return rank(sentences.size(), [&](size_t i, size_t j) {
        double common = over_common(bags.sentences[i], bags.sentences[j], [](double, double) { return 1.0; });
        return common > 0 ? common / (size(i) + size(j)) : 0.0;
    });
}

}  // namespace samba
