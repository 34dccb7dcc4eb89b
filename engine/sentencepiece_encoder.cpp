#include "engine/sentencepiece_encoder.h"

#include <sentencepiece_processor.h>

#include "engine/utf8.h"
#include "kernels/error.h"
#include "models/quote.h"

namespace samba {

namespace {

using sentencepiece::SentencePieceProcessor;

// Protobuf: the last value of a field wins, a repeated message is merged.
constexpr std::string_view kControlType("\x18\x03", 2);  // SentencePiece.type = CONTROL
constexpr std::string_view kNoDummyPrefix("\x1A\x02\x18\x00",
                                          4);  // ModelProto.normalizer_spec.add_dummy_prefix = false

uint64_t read_varint(std::string_view bytes, size_t& at) {
    uint64_t value = 0;
    for (int shift = 0; at < bytes.size() && shift < 64; shift += 7) {
        auto byte = static_cast<unsigned char>(bytes[at++]);
        value |= static_cast<uint64_t>(byte & 127) << shift;
        if (byte < 128) break;
    }
    return value;
}

void append_varint(std::string& out, uint64_t value) {
    for (; value >= 128; value >>= 7) out.push_back(static_cast<char>(value | 128));
    out.push_back(static_cast<char>(value));
}

// The model (checked by parse_sentencepiece) with its CONTROL pieces marked so; what only its trainer and its decoder
// need (self test, denormaliser) stays behind.
std::string with_control_pieces(std::string_view model, const Vocabulary& vocabulary) {
    std::string out;
    out.reserve(model.size() + 1024);
    int32_t id = 0;
    for (size_t at = 0; at < model.size();) {
        size_t start = at;
        uint64_t key = read_varint(model, at);
        uint64_t length = (key & 7) == 1 ? 8 : (key & 7) == 5 ? 4 : read_varint(model, at);
        if ((key & 7) == 0) continue;  // a number; that was it
        std::string_view body = model.substr(at, length);
        at += body.size();
        if (key >> 3 == 1) {
            bool control = vocabulary.type(id++) == PieceType::kControl;
            out.push_back('\x0A');
            append_varint(out, body.size() + (control ? kControlType.size() : 0));
            out.append(body);
            if (control) out.append(kControlType);
        } else if (key >> 3 == 2 || key >> 3 == 3) {
            out.append(model.substr(start, at - start));
        }
    }
    return out;
}

std::unique_ptr<SentencePieceProcessor> load(const std::string& model) {
    auto processor = std::make_unique<SentencePieceProcessor>();
    auto status = processor->LoadFromSerializedProto(model);
    if (!status.ok()) throw FileError("the sentencepiece model cannot be used: " + in_quotes(status.ToString()));
    return processor;
}

uint64_t pair_key(char32_t a, char32_t b) { return static_cast<uint64_t>(a) << 32 | b; }

}  // namespace

SentencePieceEncoder::SentencePieceEncoder(std::string_view model, const SentencePieceFile& file,
                                           const Vocabulary& vocabulary)
    : exact_(file.exact_streams()),
      adds_space_(file.add_dummy_prefix),
      drops_spaces_(file.remove_extra_whitespaces),
      merges_unknown_(!file.byte_fallback) {
    for (size_t id = 0; id < file.pieces.size(); ++id) {
        PieceType type = vocabulary.type(static_cast<int32_t>(id));
        const std::string& text = file.pieces[id].text;
        char32_t before = 0;
        size_t n = 0;
        for (size_t at = 0; at < text.size(); ++n) {
            Utf8Char c = decode_utf8(std::string_view(text).substr(at));
            bool in_text = type == PieceType::kNormal || type == PieceType::kUserDefined;
            if (n > 0 && in_text) pairs_.insert(pair_key(before, c.code));
            before = c.code;
            at += static_cast<size_t>(c.length);
        }
        if (n == 1 && type == PieceType::kNormal) characters_.insert(before);
        // The library looks a character up among the control pieces before it knows it as text.
        if (n == 1 && type == PieceType::kControl) {
            throw FileError("the control token " + in_quotes(text) +
                            " is a single character, which any text may hold; expected something like <|end|>");
        }
        // Cut off from its other occurrences, an unused piece may be taken apart differently; and a piece with a real
        // space sees a difference between a space of the text and the one that begins it.
        if (type == PieceType::kUnused || (type == PieceType::kUserDefined && text.find(' ') != std::string::npos)) {
            exact_ = false;
        }
    }
    std::string bytes = with_control_pieces(model, vocabulary);
    inside_ = load(bytes + std::string(kNoDummyPrefix));
    if (!exact_) beginning_ = load(bytes);
}

SentencePieceEncoder::~SentencePieceEncoder() = default;

bool SentencePieceEncoder::can_cut(char32_t a, char32_t b) const {
    if (a == U' ') a = kSpaceMark;
    if (b == U' ') b = kSpaceMark;
    // Without byte pieces, unknown characters side by side become one token.
    if (merges_unknown_ && !characters_.contains(a) && !characters_.contains(b)) return false;
    return !pairs_.contains(pair_key(a, b));
}

void SentencePieceEncoder::encode(std::string_view run, bool begins_text, std::vector<int32_t>& ids) const {
    std::vector<int> part;
    std::string spaced;
    if (begins_text && adds_space_ && exact_) {
        spaced.append(1, ' ').append(run);
        run = spaced;
    }
    // A model that drops spaces at a run's ends gives a word after a forced cut its space as it does at the beginning.
    bool as_beginning = !exact_ && (begins_text || (drops_spaces_ && run.starts_with(' ')));
    auto status = (as_beginning ? beginning_ : inside_)->Encode(run, &part);
    if (!status.ok()) throw Error("sentencepiece: " + in_quotes(status.ToString()));
    ids.insert(ids.end(), part.begin(), part.end());
}

}  // namespace samba
