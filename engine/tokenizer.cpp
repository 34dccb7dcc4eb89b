#include "engine/tokenizer.h"

#include <algorithm>
#include <array>
#include <mutex>

#include "engine/bpe_encoder.h"
#include "engine/sentencepiece_encoder.h"
#include "engine/utf8.h"
#include "engine/vocabulary.h"
#include "engine/word_cache.h"
#include "kernels/error.h"
#include "models/quote.h"

namespace samba {

namespace {

constexpr size_t kLongestRun = 64 << 10;  // without a cut: cut there by force
constexpr size_t kSegment = 1 << 10;      // a stream is looked at when it has grown by this

}  // namespace

struct Tokenizer::Impl {
    std::unique_ptr<Vocabulary> vocabulary;
    std::unique_ptr<TextEncoder> encoder;
    int64_t vocab_size = 0;
    int32_t bos = -1, eos = -1;
    bool add_bos = false;
    std::vector<int32_t> end_ids;
    std::array<std::array<bool, 128>, 128> ascii_cut{};  // can_cut of ASCII
    mutable std::mutex mutex;                            // of the cache
    mutable WordCache cache;

    void read_ids(const TokenizerData& data);
    bool can_cut(char32_t a, char32_t b) const {
        return a < 128 && b < 128 ? ascii_cut[a][b] : encoder->exact() && encoder->can_cut(a, b);
    }
    void encode(std::string_view run, bool begins_text, std::vector<int32_t>& ids) const {
        if (!begins_text && cache.find(run, ids)) return;
        size_t first = ids.size();
        encoder->encode(run, begins_text, ids);
        if (!begins_text) cache.put(run, ids, first);
    }
};

void Tokenizer::Impl::read_ids(const TokenizerData& data) {
    if (static_cast<int64_t>(vocabulary->size()) > vocab_size) {
        throw FileError("the tokenizer has " + std::to_string(vocabulary->size()) + " pieces, the embedding only " +
                        std::to_string(vocab_size) + " rows");
    }
    auto check = [&](int64_t id, const char* what) {
        if (id < vocab_size) return static_cast<int32_t>(id);
        throw FileError(std::string("the tokenizer's ") + what + " token is " + std::to_string(id) +
                        ", expected one below " + std::to_string(vocab_size));
    };
    bos = check(data.bos, "begin");
    eos = check(data.eos, "end");
    add_bos = data.add_bos;
    std::vector<int64_t> ends(data.end_ids.begin(), data.end_ids.end());
    if (ends.empty()) ends = {data.eos, data.eot};
    for (int64_t id : ends) {
        if (id < 0) continue;
        int32_t checked = check(id, "end");
        if (std::find(end_ids.begin(), end_ids.end(), checked) == end_ids.end()) end_ids.push_back(checked);
    }
}

Tokenizer::Tokenizer(const TokenizerData& data, int64_t vocab_size, std::span<const std::string> control_pieces)
    : impl_(std::make_unique<Impl>()) {
    Impl& t = *impl_;
    if (data.kind == "llama") {
        if (data.sentencepiece_model.empty()) {
            throw FileError(
                "the tokenizer has no tokenizer.sentencepiece.model, which the program needs; convert the "
                "checkpoint again with --tokenizer tokenizer.model");
        }
        SentencePieceFile file = parse_sentencepiece(data.sentencepiece_model, "tokenizer.sentencepiece.model");
        t.vocabulary = std::make_unique<Vocabulary>(data, file, control_pieces);
        t.encoder = std::make_unique<SentencePieceEncoder>(data.sentencepiece_model, file, *t.vocabulary);
    } else if (data.kind == "gpt2") {
        t.vocabulary = std::make_unique<Vocabulary>(data, control_pieces);
        t.encoder = std::make_unique<BpeEncoder>(data, *t.vocabulary);
    } else {
        throw FileError("expected a tokenizer of kind \"llama\" or \"gpt2\", found " + in_quotes(data.kind));
    }
    t.vocab_size = vocab_size;
    t.read_ids(data);
    for (char32_t a = 0; a < 128; ++a) {
        for (char32_t b = 0; b < 128; ++b) t.ascii_cut[a][b] = t.encoder->exact() && t.encoder->can_cut(a, b);
    }
}

Tokenizer::~Tokenizer() = default;

int64_t Tokenizer::vocab_size() const { return impl_->vocab_size; }
int32_t Tokenizer::bos() const { return impl_->bos; }
int32_t Tokenizer::eos() const { return impl_->eos; }
bool Tokenizer::add_bos() const { return impl_->add_bos; }
const std::vector<int32_t>& Tokenizer::end_ids() const { return impl_->end_ids; }
bool Tokenizer::adds_space() const { return impl_->encoder->adds_space(); }
bool Tokenizer::exact_streams() const { return impl_->encoder->exact(); }
bool Tokenizer::can_cut(char32_t a, char32_t b) const { return impl_->can_cut(a, b); }

std::optional<int32_t> Tokenizer::id_of(std::string_view piece) const { return impl_->vocabulary->id_of(piece); }

std::string Tokenizer::piece(int32_t id) const {
    return impl_->vocabulary->has(id) ? impl_->vocabulary->piece(id) : std::string(kReplacementUtf8);
}

bool Tokenizer::is_control(int32_t id) const {
    return impl_->vocabulary->has(id) && impl_->vocabulary->type(id) == PieceType::kControl;
}

std::string Tokenizer::bytes(int32_t id) const {
    return impl_->vocabulary->has(id) ? impl_->vocabulary->bytes(id) : std::string(kReplacementUtf8);
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool strip_first_space) const {
    std::string text;
    for (int32_t id : ids) text += bytes(id);
    if (strip_first_space && adds_space() && text.starts_with(' ')) text.erase(0, 1);
    return text;
}

// The ids do not depend on how the text arrived: cuts depend on two characters, forced ones on the last cut.
size_t Tokenizer::encode_runs(std::string_view text, bool continuation, bool last, std::vector<int32_t>& ids,
                              int64_t& forced_cuts) const {
    const Impl& t = *impl_;
    std::lock_guard lock(t.mutex);
    size_t start = 0, word = 0;  // word: where a word last began in this run's second half
    auto flush = [&](size_t end) {
        t.encode(text.substr(start, end - start), !continuation && start == 0, ids);
        start = end;
    };
    char32_t before = 0;
    for (size_t at = 0; at < text.size();) {
        auto byte = static_cast<unsigned char>(text[at]);
        Utf8Char c = byte < 128 ? Utf8Char{Utf8Char::kValid, byte, 1} : decode_utf8(text.substr(at));
        if (c.kind == Utf8Char::kCut) {
            if (!last) break;
            c.length = 1;
        }
        size_t length = static_cast<size_t>(c.length);
        if (at > start) {
            if (c.code == U' ' && before != U' ' && at - start > kLongestRun / 2) word = at;
            if (t.can_cut(before, c.code)) {
                flush(at);
            } else if (at + length - start > kLongestRun) {
                flush(word > start ? word : at);
                ++forced_cuts;
            }
        }
        before = c.code;
        at += length;
    }
    if (last && start < text.size()) flush(text.size());
    return start;
}

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
    std::vector<int32_t> ids;
    int64_t forced_cuts = 0;
    encode_runs(text, false, true, ids, forced_cuts);
    return ids;
}

std::vector<int32_t> Tokenizer::encode_continuation(std::string_view text) const {
    std::vector<int32_t> ids;
    int64_t forced_cuts = 0;
    encode_runs(text, true, true, ids, forced_cuts);
    return ids;
}

StreamEncoder::StreamEncoder(const Tokenizer& tokenizer, bool continuation)
    : tokenizer_(&tokenizer), started_(continuation), look_at_(kSegment) {}

void StreamEncoder::push(std::string_view text, std::vector<int32_t>& ids) {
    tail_ += text;
    if (tail_.size() < look_at_) return;
    size_t done = tokenizer_->encode_runs(tail_, started_, false, ids, forced_cuts_);
    started_ = started_ || done > 0;
    tail_.erase(0, done);
    // A run that goes on is looked at again when it has doubled, so that small pushes cost no square.
    look_at_ = std::max(kSegment, std::min(2 * tail_.size(), kLongestRun + 4));
}

void StreamEncoder::finish(std::vector<int32_t>& ids) {
    tokenizer_->encode_runs(tail_, started_, true, ids, forced_cuts_);
    started_ = started_ || !tail_.empty();
    tail_.clear();
    look_at_ = kSegment;
}

}  // namespace samba
