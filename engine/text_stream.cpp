#include "engine/text_stream.h"

#include <algorithm>

#include "engine/utf8.h"
#include "kernels/error.h"

namespace samba {

namespace {

constexpr std::string_view kUtf8Mark = "\xEF\xBB\xBF";
constexpr std::string_view kUtf16Marks[] = {"\xFF\xFE", "\xFE\xFF"};

// Bytes at the start of `text` that pass as they are: ASCII up to a carriage return or a longer character.
size_t plain_length(std::string_view text) {
    auto special = [](char c) { return c == '\r' || static_cast<unsigned char>(c) >= 0x80; };
    return static_cast<size_t>(std::find_if(text.begin(), text.end(), special) - text.begin());
}

}  // namespace

// The length of the byte order mark, 0 for none; npos while that is not known yet.
size_t InputText::skip_mark(std::string_view bytes, bool last) {
    for (std::string_view mark : kUtf16Marks) {
        if (bytes.starts_with(mark)) {
            throw FileError(
                "the text begins with a UTF-16 byte order mark, expected UTF-8: convert it with "
                "`iconv -f UTF-16 -t UTF-8`");
        }
    }
    if (bytes.starts_with(kUtf8Mark)) return kUtf8Mark.size();
    bool may_become =
        kUtf8Mark.starts_with(bytes) || kUtf16Marks[0].starts_with(bytes) || kUtf16Marks[1].starts_with(bytes);
    return may_become && !last ? std::string_view::npos : 0;
}

std::string InputText::convert(std::string_view bytes, bool last) {
    std::string out;
    if (!begun_) {
        size_t mark = skip_mark(bytes, last);
        if (mark == std::string_view::npos) {
            held_ = bytes;
            return out;
        }
        bytes.remove_prefix(mark);
        begun_ = true;
    }
    out.reserve(bytes.size());
    while (!bytes.empty()) {
        size_t n = plain_length(bytes);
        out.append(bytes.substr(0, n));
        bytes.remove_prefix(n);
        if (bytes.empty()) break;
        if (bytes[0] == '\r') {
            if (bytes.size() == 1 && !last) break;
            if (!bytes.substr(1).starts_with('\n')) out.push_back('\r');
            bytes.remove_prefix(1);
            continue;
        }
        Utf8Char c = decode_utf8(bytes);
        if (c.kind == Utf8Char::kCut && !last) break;
        if (c.kind != Utf8Char::kValid) {
            ++invalid_bytes_;
            c.length = 1;
            out.append(kReplacementUtf8);
        } else if (c.code == kSpaceMark) {
            ++replaced_spaces_;
            out.push_back(' ');
        } else {
            out.append(bytes.substr(0, static_cast<size_t>(c.length)));
        }
        bytes.remove_prefix(static_cast<size_t>(c.length));
    }
    held_ = bytes;
    return out;
}

std::string InputText::push(std::string_view bytes) {
    if (held_.empty()) return convert(bytes, false);
    std::string joined = held_;
    joined += bytes;
    return convert(joined, false);
}

std::string InputText::finish() { return convert(std::string(held_), true); }

std::string clean_text(std::string_view bytes, int64_t* invalid_bytes, int64_t* replaced_spaces) {
    InputText input;
    std::string text = input.push(bytes);
    text += input.finish();
    if (invalid_bytes) *invalid_bytes = input.invalid_bytes();
    if (replaced_spaces) *replaced_spaces = input.replaced_spaces();
    return text;
}

std::string to_valid_utf8(std::string_view bytes) {
    std::string out;
    out.reserve(bytes.size());
    while (!bytes.empty()) {
        Utf8Char c = decode_utf8(bytes);
        size_t length = c.kind == Utf8Char::kValid ? static_cast<size_t>(c.length) : 1;
        out.append(c.kind == Utf8Char::kValid ? bytes.substr(0, length) : kReplacementUtf8);
        bytes.remove_prefix(length);
    }
    return out;
}

TextStream::TextStream(const Tokenizer& tokenizer, bool strip_first_space)
    : tokenizer_(&tokenizer), strip_(strip_first_space && tokenizer.adds_space()) {}

std::string TextStream::push(int32_t id) {
    std::string bytes = tokenizer_->bytes(id);
    if (strip_ && !bytes.empty()) {
        strip_ = false;
        if (bytes[0] == ' ') bytes.erase(0, 1);
    }
    held_ += bytes;
    size_t whole = 0;
    while (whole < held_.size()) {
        Utf8Char c = decode_utf8(std::string_view(held_).substr(whole));
        if (c.kind == Utf8Char::kCut) break;
        whole += static_cast<size_t>(c.length);
    }
    std::string out = held_.substr(0, whole);
    held_.erase(0, whole);
    return out;
}

std::string TextStream::finish() {
    std::string out;
    out.swap(held_);
    return out;
}

}  // namespace samba
