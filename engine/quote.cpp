#include "engine/quote.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <unordered_set>

#include "engine/byte_codec.h"
#include "engine/text_stream.h"
#include "engine/textrank.h"

namespace samba {
namespace {

// The recipe's numbers.
constexpr int64_t kLeastWords = 8, kMostWords = 40;  // of a candidate
constexpr int64_t kSectionWords = 150;               // of what goes up a level
constexpr size_t kTried = 15, kHeard = 20;
constexpr double kTextRank = 0.6, kOverlap = 0.6, kPosition = 0.5, kLikelihood = 0.5, kHeading = 0.5;
constexpr double kPositionScale = 5;
constexpr int64_t kHeadingWords = 12;  // at most
constexpr size_t kHeadings = 8;        // so many of the last ones count

int64_t words_of(const std::string& text) { return static_cast<int64_t>(count_words(text)); }

bool is_question(std::string_view text) {
    size_t end = text.find_last_not_of("\"'");
    text = text.substr(0, end + 1);
    for (std::string_view closer : {"\u201d", "\u2019"}) {
        if (text.ends_with(closer)) text.remove_suffix(closer.size());
    }
    return text.ends_with('?') || text.ends_with("\uff1f") || text.ends_with("\u061f");
}

// Somebody speaks: it begins with a quotation mark, or with half of a quotation.
bool is_speech(std::string_view text) {
    for (std::string_view mark : {"\"", "'", "\u201c", "\u2018", "\u201e", "\u00ab", "\u300c"}) {
        if (text.starts_with(mark)) return true;
    }
    auto count = [&](std::string_view mark) {
        size_t n = 0;
        for (size_t at = text.find(mark); at != std::string_view::npos; at = text.find(mark, at + mark.size())) ++n;
        return n;
    };
    return count("\"") % 2 == 1 || count("\u201c") != count("\u201d") || count("\u300c") != count("\u300d");
}

// A sentence across lines, as a reply would have it.
std::string one_line(std::string_view text) {
    std::string line;
    for (char c : text) {
        bool space = c == ' ' || c == '\n' || c == '\t' || c == '\r';
        if (!space) line += c;
        if (space && !line.ends_with(' ')) line += ' ';
    }
    return line;
}

}  // namespace

std::vector<double> standardised(const std::vector<double>& values) {
    double n = static_cast<double>(std::max<size_t>(values.size(), 1));
    double mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
    double squares = 0;
    for (double v : values) squares += (v - mean) * (v - mean);
    double deviation = std::sqrt(squares / n);
    std::vector<double> z;
    for (double v : values) z.push_back(deviation > 1e-12 ? (v - mean) / deviation : 0.0);
    return z;
}

std::vector<size_t> best(const std::vector<double>& scores, size_t n) {
    std::vector<size_t> order(scores.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return scores[a] > scores[b]; });
    order.resize(std::min(order.size(), n));
    return order;
}

std::vector<size_t> pick(const std::vector<double>& scores, const std::vector<Costs>& costs, Costs most,
                         size_t most_tried) {
    std::vector<size_t> taken;
    for (size_t i : best(scores, most_tried)) {
        if (costs[i].words > most.words || costs[i].tokens > most.tokens) continue;
        most.words -= costs[i].words;
        most.tokens -= costs[i].tokens;
        taken.push_back(i);
    }
    std::sort(taken.begin(), taken.end());
    return taken;
}

Quote::Quote(const Tokenizer& tokenizer, Options options, const Recipe& recipe, std::unique_ptr<ReplyScorer> scorer)
    : Summarizer(tokenizer, std::move(options)), recipe_(recipe), stems_(recipe.language), scorer_(std::move(scorer)) {}

std::vector<int32_t> Quote::request_ids(const Engine& engine, const std::string& request) {
    const Tokenizer& t = engine.tokenizer();
    std::vector<int32_t> ids;
    auto append = [&](const std::vector<int32_t>& more) { ids.insert(ids.end(), more.begin(), more.end()); };
    if (const ChatTemplate* chat = engine.chat_template()) {
        append(chat->begin(t));
        append(chat->encode(t, {"user", request}));
        append(chat->reply_opening(t));
    } else {
        if (t.add_bos()) ids.push_back(t.bos());
        append(t.encode(request + "\n\n"));
    }
    return ids;
}

// Sentences as they should be. Tokens are bounded as well as words, so that every level is shorter than the one below.
bool Quote::is_candidate(const Piece& piece) const {
    int64_t words = words_of(piece.part.text);
    return piece.ended && words >= kLeastWords && words <= kMostWords && piece.tokens <= options_.section_tokens / 4 &&
           !is_question(piece.part.text) && !is_speech(piece.part.text);
}

// Each text once. Where a section has no such sentences: those that end with an end mark, else all that fit.
std::vector<Summarizer::Piece*> Quote::candidates(Section& section, Costs most) const {
    std::vector<Piece*> good, ended, rest;
    std::unordered_set<std::string_view> seen;
    for (Piece& piece : section) {
        if (!seen.insert(piece.part.text).second) continue;
        if (is_candidate(piece)) {
            good.push_back(&piece);
        } else if (!piece.name && words_of(piece.part.text) <= most.words && piece.tokens <= most.tokens) {
            (piece.ended ? ended : rest).push_back(&piece);
        }
    }
    return !good.empty() ? good : !ended.empty() ? ended : rest;
}

// The model reads only the best that there are without it, which is what costs time; the others drop out.
void Quote::hear_model(std::vector<Piece*>& pieces, std::vector<double>& scores, size_t most_heard) {
    if (!scorer_) return;
    std::vector<size_t> heard = best(scores, most_heard);
    std::sort(heard.begin(), heard.end());
    std::vector<Piece*> unscored;
    std::vector<std::vector<int32_t>> texts;
    for (size_t i : heard) {
        if (pieces[i]->score) continue;
        unscored.push_back(pieces[i]);
        texts.push_back(tokenizer_.encode(one_line(clean_text(pieces[i]->part.text))));
    }
    std::vector<double> found = scorer_->score(texts), likelihood;
    for (size_t i = 0; i < unscored.size(); ++i) unscored[i]->score = found[i];
    for (size_t i : heard) likelihood.push_back(*pieces[i]->score);
    likelihood = standardised(likelihood);
    for (size_t i = 0; i < heard.size(); ++i) {
        pieces[i] = pieces[heard[i]];
        scores[i] = scores[heard[i]] + kLikelihood * likelihood[i];
    }
    pieces.resize(heard.size());
    scores.resize(heard.size());
}

void Quote::score(Section& section) {
    std::vector<Piece*> pieces = candidates(section, {most_of(false).words, options_.section_tokens / 4});
    std::vector<double> scores = rank(pieces);
    hear_model(pieces, scores, kHeard);
}

// The share of its stems that the last headings have.
double Quote::weigh(const Piece& piece) const {
    std::vector<std::string> stems = stems_.of(piece.part.text);
    std::sort(stems.begin(), stems.end());
    stems.erase(std::unique(stems.begin(), stems.end()), stems.end());
    auto in_headings = [&](const std::string& stem) {
        return std::any_of(headings_.begin(), headings_.end(), [&](const std::vector<std::string>& heading) {
            return std::find(heading.begin(), heading.end(), stem) != heading.end();
        });
    };
    auto n = std::count_if(stems.begin(), stems.end(), in_headings);
    return stems.empty() ? 0.0 : static_cast<double>(n) / static_cast<double>(stems.size());
}

void Quote::pass(const Piece& piece) {
    bool heading = piece.new_paragraph && !piece.ended && !piece.name && words_of(piece.part.text) <= kHeadingWords;
    if (!heading) return;
    headings_.push_back(stems_.of(piece.part.text));
    if (headings_.size() > kHeadings) headings_.pop_front();
}

void Quote::save_passed(ByteWriter& w) const {
    w.put<uint64_t>(headings_.size());
    for (const std::vector<std::string>& heading : headings_) w.put(heading);
}

void Quote::resume_passed(ByteReader& r) {
    uint64_t n = 0;
    r.get(n);
    if (n > kHeadings) r.fail("numbers that no summary has");
    headings_.assign(n, {});
    for (std::vector<std::string>& heading : headings_) r.get(heading);
}

// By words and places alone.
std::vector<double> Quote::rank(const std::vector<Piece*>& pieces) const {
    std::vector<Stems> stems;
    std::vector<double> position, heading;
    for (const Piece* piece : pieces) {
        stems.push_back(stems_.of(piece->part.text));
        position.push_back(std::exp(-static_cast<double>(position.size()) / kPositionScale));
        heading.push_back(piece->weight);
    }
    std::vector<double> cosine = standardised(textrank_cosine(stems)), overlap = standardised(textrank_overlap(stems));
    position = standardised(position);
    heading = standardised(heading);
    std::vector<double> scores;
    for (size_t i = 0; i < pieces.size(); ++i) {
        scores.push_back(kTextRank * cosine[i] + kOverlap * overlap[i] + kPosition * position[i] +
                         kHeading * heading[i]);
    }
    return scores;
}

Costs Quote::most_of(bool last) const {
    if (last) return {recipe_.words, INT64_MAX};
    return {std::min(kSectionWords, options_.section_tokens / 4), options_.section_tokens / 2};
}

std::optional<Summarizer::Section> Quote::reduce(Section section, bool last, const OnToken&) {
    Costs most = most_of(last);
    size_t tried = last ? std::max(kTried, static_cast<size_t>(recipe_.words) * kTried / 100) : kTried;
    std::vector<Piece*> pieces = candidates(section, {most.words, options_.section_tokens / 4});
    std::vector<double> scores = rank(pieces);
    hear_model(pieces, scores, tried * kHeard / kTried);
    std::vector<Costs> costs;
    for (const Piece* piece : pieces) costs.push_back({words_of(piece->part.text), piece->tokens});
    Section taken;
    for (size_t i : pick(scores, costs, most, tried)) taken.push_back(std::move(*pieces[i]));
    return taken;
}

}  // namespace samba
