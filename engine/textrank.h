// How central each sentence is among its neighbours: PageRank on how alike sentences are (Mihalcea & Tarau, "TextRank",
// EMNLP 2004). Sentences are lists of stems, repeats included.
#pragma once
#include <span>
#include <string>
#include <vector>

namespace samba {

using Stems = std::vector<std::string>;

// Alike: the cosine of tf · ln((1 + N) / df), N sentences of which df have the word.
std::vector<double> textrank_cosine(std::span<const Stems> sentences);
// Alike: |A ∩ B| / (ln(|a| + 1) + ln(|b| + 1)), A and B the sets of words, |a| and |b| the counts of words.
std::vector<double> textrank_overlap(std::span<const Stems> sentences);

// PageRank (damping 0.85, 50 iterations) of n nodes with these weights (n, n); rows are normalised, a node's link to
// itself does not count, and one without links passes nothing on.
std::vector<double> page_rank(std::vector<double> weights, size_t n);

}  // namespace samba
