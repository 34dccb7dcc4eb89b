#include "engine/summarizer.h"

#include <algorithm>

#include "engine/byte_codec.h"
#include "engine/text_stream.h"

namespace samba {

Summarizer::Summarizer(const Tokenizer& tokenizer, Options options)
    : tokenizer_(tokenizer), options_(std::move(options)) {}

// ---- reading ---------------------------------------------------------------------------------------------------

void Summarizer::begin_file(const std::string& name, uint64_t offset) {
    if (n_files_ > 0) split("", true);
    ++n_files_;
    SentenceSplitter::State state;
    state.offset = offset;
    splitter_.resume(state);
    begin_.clear();
    mark_skipped_ = offset > 0;
    if (name.empty()) return;
    Piece piece;
    piece.part.text = name;
    piece.name = piece.new_paragraph = true;
    piece.tokens = static_cast<int64_t>(tokenizer_.encode(name).size());
    add(levels_, 0, std::move(piece));
}

void Summarizer::push(std::string_view bytes) { split(bytes, false); }

void Summarizer::split(std::string_view bytes, bool last) {
    auto take = [&](Sentence&& s) {
        int64_t before = read_.tokens;
        Piece piece = piece_of(std::move(s), read_);
        pass(piece);
        add(levels_, 0, std::move(piece));
        int64_t every = options_.every;
        if (every > 0 && read_.tokens / every > before / every) options_.at_every(read_.tokens);
    };
    rest_ = {};
    if (!mark_skipped_) {
        constexpr std::string_view kMark = "\xEF\xBB\xBF";
        begin_ += bytes;
        if (begin_.size() < kMark.size() && !last) return;
        InputText().push(begin_);  // refuses UTF-16
        SentenceSplitter::State state;
        if (begin_.starts_with(kMark)) state.offset = kMark.size();
        splitter_.resume(state);
        mark_skipped_ = true;
        splitter_.push(std::string_view(begin_).substr(state.offset), take);
        begin_.clear();
    } else {
        splitter_.push(bytes, take);
    }
    if (last) splitter_.finish(take);
}

Summarizer::Piece Summarizer::piece_of(Sentence&& sentence, Counts& counts) const {
    Piece piece;
    int64_t invalid = 0, spaces = 0;
    piece.tokens = static_cast<int64_t>(tokenizer_.encode(clean_text(sentence.text, &invalid, &spaces)).size());
    counts.invalid_bytes += invalid;
    counts.replaced_spaces += spaces;
    piece.ended = sentence.ended;
    piece.new_paragraph = sentence.new_paragraph;
    piece.part = {std::move(sentence.text), true, n_files_ > 0 ? n_files_ - 1 : 0, sentence.offset};
    piece.weight = weigh(piece);
    counts.tokens += piece.tokens;
    return piece;
}

TextChanges Summarizer::changes() const {
    return {read_.invalid_bytes + rest_.invalid_bytes, read_.replaced_spaces + rest_.replaced_spaces, 0};
}

// ---- levels ----------------------------------------------------------------------------------------------------

// A full section goes up before the piece comes in. False: stopped; then the section waits, fuller than it should be.
bool Summarizer::add(std::vector<Level>& levels, size_t level, Piece&& piece) {
    if (levels.size() <= level) levels.resize(level + 1);
    bool full = !levels[level].section.empty() && levels[level].tokens + piece.tokens > options_.section_tokens;
    bool goes_on = true;
    if (full) {
        std::optional<Section> shorter = reduce(levels[level].section, false, {});
        goes_on = shorter.has_value();
        if (shorter) levels[level] = {};
        for (size_t i = 0; shorter && i < shorter->size(); ++i) {
            goes_on = add(levels, level + 1, std::move((*shorter)[i])) && goes_on;
        }
    }
    levels[level].tokens += piece.tokens;
    levels[level].section.push_back(std::move(piece));
    return goes_on;
}

std::optional<std::vector<SummaryPart>> Summarizer::summary(bool all, const OnToken& on_token) {
    if (levels_.empty()) levels_.resize(1);
    score(levels_[0].section);
    std::vector<Level> levels = levels_;
    if (all) {
        SentenceSplitter splitter = splitter_;
        rest_ = {};
        auto take = [&](Sentence&& s) { add(levels, 0, piece_of(std::move(s), rest_)); };
        splitter.push(begin_, take);
        splitter.finish(take);
    }
    for (size_t level = 0;; ++level) {
        bool last = true;
        for (size_t above = level + 1; above < levels.size(); ++above) last = last && levels[above].section.empty();
        std::optional<Section> shorter = reduce(std::move(levels[level].section), last, last ? on_token : OnToken());
        if (!shorter) return {};
        if (last) {
            std::vector<SummaryPart> parts;
            for (Piece& piece : *shorter) parts.push_back(std::move(piece.part));
            return parts;
        }
        levels[level] = {};
        for (Piece& piece : *shorter) {
            if (!add(levels, level + 1, std::move(piece))) return {};
        }
    }
}

// ---- saving ----------------------------------------------------------------------------------------------------

void put_value(ByteWriter& w, const Summarizer::Piece& p) {
    w.put(p.part.text);
    w.put(p.part.quoted);
    w.put(p.part.file);
    w.put(p.part.offset);
    w.put(p.ended);
    w.put(p.new_paragraph);
    w.put(p.name);
    w.put(p.tokens);
    w.put(p.weight);
    w.put(p.score.has_value());
    w.put(p.score.value_or(0));
}

void get_value(ByteReader& r, Summarizer::Piece& p) {
    bool scored = false;
    double score = 0;
    r.get(p.part.text);
    r.get(p.part.quoted);
    r.get(p.part.file);
    r.get(p.part.offset);
    r.get(p.ended);
    r.get(p.new_paragraph);
    r.get(p.name);
    r.get(p.tokens);
    r.get(p.weight);
    r.get(scored);
    r.get(score);
    if (p.tokens < 0 || p.tokens > INT32_MAX) r.fail("a sentence of " + std::to_string(p.tokens) + " tokens");
    if (scored) p.score = score;
}

std::string Summarizer::save() const {
    ByteWriter w;
    const SentenceSplitter::State& s = splitter_.state();
    w.put(s.held);
    w.put(s.offset);
    w.put<int32_t>(s.newlines);
    w.put(n_files_);
    w.put(mark_skipped_);
    w.put(begin_);
    w.put(read_.tokens);
    w.put<uint64_t>(levels_.size());
    for (const Level& level : levels_) w.put(level.section);
    save_passed(w);
    return std::move(w.bytes);
}

void Summarizer::resume(const std::string& saved, const std::string& where) {
    ByteReader r(saved, where);
    SentenceSplitter::State s;
    int32_t newlines = 0;
    uint64_t n_levels = 0;
    r.get(s.held);
    r.get(s.offset);
    r.get(newlines);
    r.get(n_files_);
    r.get(mark_skipped_);
    r.get(begin_);
    r.get(read_.tokens);
    r.get(n_levels);
    if (n_levels > 64 || newlines < 0 || read_.tokens < 0) r.fail("numbers that no summary has");
    s.newlines = newlines;
    splitter_.resume(std::move(s));
    levels_.assign(n_levels, {});
    for (Level& level : levels_) {
        r.get(level.section);
        for (const Piece& piece : level.section) level.tokens += piece.tokens;
    }
    resume_passed(r);
    r.end();
}

}  // namespace samba
