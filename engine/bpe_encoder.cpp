#include "engine/bpe_encoder.h"

#include <algorithm>
#include <queue>

#include "engine/byte_alphabet.h"
#include "engine/unicode.h"
#include "engine/utf8.h"
#include "kernels/error.h"
#include "models/quote.h"

namespace samba {

namespace {

uint64_t pair_key(uint32_t a, uint32_t b) { return static_cast<uint64_t>(a) << 32 | b; }

}  // namespace

BpeEncoder::BpeEncoder(const TokenizerData& data, const Vocabulary& vocabulary) : adds_space_(data.add_space_prefix) {
    if (data.pre != "gpt-2" && data.pre != "gpt-neox" && data.pre != "llama-bpe") {
        throw FileError("tokenizer.ggml.pre: expected \"gpt-2\", \"gpt-neox\" or \"llama-bpe\", found " +
                        in_quotes(data.pre));
    }
    nfc_ = data.pre == "gpt-neox";
    if (data.pre == "llama-bpe") {
        pattern_ = WordPattern::kLlama3;
        read_whole_words(vocabulary);
    }
    read_bytes(vocabulary);
    read_merges(data, vocabulary);
    read_added(vocabulary);
}

void BpeEncoder::read_bytes(const Vocabulary& vocabulary) {
    for (int byte = 0; byte < 256; ++byte) {
        std::string piece;
        append_utf8(piece, alphabet_character(static_cast<unsigned char>(byte)));
        auto id = vocabulary.id_of(piece);
        if (!id || vocabulary.type(*id) == PieceType::kControl) {
            throw FileError("the byte-level BPE vocabulary has no piece " + in_quotes(piece) + " for byte " +
                            std::to_string(byte) + "; expected one for each of the 256");
        }
        byte_ids_[static_cast<size_t>(byte)] = *id;
    }
}

void BpeEncoder::read_merges(const TokenizerData& data, const Vocabulary& vocabulary) {
    merges_.reserve(data.merges.size());
    for (size_t rank = 0; rank < data.merges.size(); ++rank) {
        std::string_view merge = data.merges[rank];
        size_t space = merge.find(' ');
        std::optional<int32_t> left, right, joined;
        if (space != std::string_view::npos) {
            left = vocabulary.id_of(merge.substr(0, space));
            right = vocabulary.id_of(merge.substr(space + 1));
            joined = vocabulary.id_of(std::string(merge.substr(0, space)).append(merge.substr(space + 1)));
        }
        if (!left || !right || !joined || vocabulary.type(*joined) == PieceType::kControl) {
            throw FileError("tokenizer.ggml.merges[" + std::to_string(rank) + "] is " + in_quotes(merge) +
                            ", expected two pieces of the vocabulary that join to a third");
        }
        merges_[pair_key(static_cast<uint32_t>(*left), static_cast<uint32_t>(*right))] = {static_cast<int32_t>(rank),
                                                                                          *joined};
    }
}

void BpeEncoder::read_whole_words(const Vocabulary& vocabulary) {
    for (int32_t id = 0; vocabulary.has(id); ++id) {
        if (vocabulary.type(id) == PieceType::kNormal) whole_words_.emplace(vocabulary.bytes(id), id);
    }
}

void BpeEncoder::read_added(const Vocabulary& vocabulary) {
    for (int32_t id = 0; vocabulary.has(id); ++id) {
        if (vocabulary.type(id) != PieceType::kUserDefined || vocabulary.piece(id).empty()) continue;
        const std::string& text = vocabulary.piece(id);
        if (adds_space_) exact_ = false;  // each text after such a piece gets a space: where it ends must be known
        added_[static_cast<unsigned char>(text[0])].push_back({text, id});
        char32_t before = 0;
        for (size_t at = 0; at < text.size();) {
            Utf8Char c = decode_utf8(std::string_view(text).substr(at));
            if (at > 0) added_pairs_.insert(pair_key(before, c.code));
            before = c.code;
            at += static_cast<size_t>(c.length);
        }
    }
    for (auto& list : added_) {
        std::sort(list.begin(), list.end(),
                  [](const Added& a, const Added& b) { return a.text.size() > b.text.size(); });
    }
}

bool BpeEncoder::can_cut(char32_t a, char32_t b) const {
    if (nfc_ && !(nfc_boundary(a) && nfc_boundary(b))) return false;
    if (!words_part(a, b, pattern_)) return false;
    return added_pairs_.empty() || !added_pairs_.contains(pair_key(a, b));
}

const BpeEncoder::Added* BpeEncoder::added_at(std::string_view text) const {
    for (const Added& a : added_[static_cast<unsigned char>(text[0])]) {
        if (text.starts_with(a.text)) return &a;
    }
    return nullptr;
}

void BpeEncoder::encode(std::string_view run, bool begins_text, std::vector<int32_t>& ids) const {
    std::string normal;
    if (nfc_) run = normal = nfc(run);
    size_t from = 0;
    for (size_t at = 0; at < run.size();) {
        const Added* added = added_at(run.substr(at));
        if (!added) {
            ++at;
            continue;
        }
        encode_words(run.substr(from, at - from), begins_text || from > 0, ids);
        ids.push_back(added->id);
        at += added->text.size();
        from = at;
    }
    encode_words(run.substr(from), begins_text || from > 0, ids);
}

// `begins_text`: after an added piece too a tokenizer that adds a space adds one.
void BpeEncoder::encode_words(std::string_view text, bool begins_text, std::vector<int32_t>& ids) const {
    if (text.empty()) return;
    std::string spaced;
    if (begins_text && adds_space_ && !text.starts_with(' ')) {
        spaced.append(1, ' ').append(text);
        text = spaced;
    }
    while (!text.empty()) {
        size_t length = first_word(text, pattern_);
        encode_word(text.substr(0, length), ids);
        text.remove_prefix(length);
    }
}

// Joins the pair of lowest rank, the leftmost of equals, until no pair is in the table.
void BpeEncoder::encode_word(std::string_view word, std::vector<int32_t>& ids) const {
    if (!whole_words_.empty()) {
        if (auto whole = whole_words_.find(std::string(word)); whole != whole_words_.end()) {
            ids.push_back(whole->second);
            return;
        }
    }
    struct Symbol {
        int32_t id;
        int previous, next;  // -1: none
    };
    struct Candidate {
        int32_t rank, id;
        int left;
        bool operator<(const Candidate& o) const { return rank != o.rank ? rank > o.rank : left > o.left; }
    };
    std::vector<Symbol> symbols;
    int n = static_cast<int>(word.size());
    for (int i = 0; i < n; ++i) {
        symbols.push_back(
            {byte_ids_[static_cast<unsigned char>(word[static_cast<size_t>(i)])], i - 1, i + 1 < n ? i + 1 : -1});
    }
    auto at = [&](int i) -> Symbol& { return symbols[static_cast<size_t>(i)]; };
    auto find = [&](int left) -> const Merge* {
        if (left < 0 || at(left).next < 0) return nullptr;
        auto it =
            merges_.find(pair_key(static_cast<uint32_t>(at(left).id), static_cast<uint32_t>(at(at(left).next).id)));
        return it == merges_.end() ? nullptr : &it->second;
    };
    std::priority_queue<Candidate> queue;
    auto offer = [&](int left) {
        if (const Merge* m = find(left)) queue.push({m->rank, m->id, left});
    };
    for (int i = 0; i < n; ++i) offer(i);
    while (!queue.empty()) {
        Candidate best = queue.top();
        queue.pop();
        const Merge* merge = at(best.left).id < 0 ? nullptr : find(best.left);
        if (!merge || merge->id != best.id) continue;  // one of the two was joined meanwhile
        Symbol& left = at(best.left);
        Symbol& right = at(left.next);
        left.id = best.id;
        left.next = right.next;
        right.id = -1;
        if (left.next >= 0) at(left.next).previous = best.left;
        offer(left.previous);
        offer(best.left);
    }
    for (int i = 0; i >= 0 && n > 0; i = at(i).next) ids.push_back(at(i).id);
}

}  // namespace samba
