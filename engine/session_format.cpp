#include "engine/session_format.h"

#include <xxhash.h>

#include <cstring>

#include "engine/byte_codec.h"
#include "kernels/error.h"
#include "models/quote.h"

namespace samba {
namespace {

constexpr std::string_view kMagic = "SAMBAST1";
constexpr uint32_t kVersion = 1;

void put_snapshot(ByteWriter& w, const StoredSnapshot& s) {
    w.put(s.position);
    w.put<int32_t>(s.pending ? s.pending->id : -1);
    w.put(s.pending && s.pending->sampled);
    w.put(s.tokens);
    w.put(std::string_view(reinterpret_cast<const char*>(s.state.data()), s.state.size()));
}

void get_snapshot(ByteReader& r, StoredSnapshot& s) {
    int32_t pending = -1;
    bool sampled = false;
    r.get(s.position);
    r.get(pending);
    r.get(sampled);
    r.get(s.tokens);
    if (s.position < 0) r.fail("a negative position");
    if (s.tokens.size() > static_cast<size_t>(std::min(s.position, kHistory))) {
        r.fail(std::to_string(s.tokens.size()) + " last tokens, more than it may hold");
    }
    if (pending >= 0) s.pending = Pending{pending, sampled};
    s.state = r.get_bytes();
}

void put_section(std::string& file, std::string_view name, const std::string& contents) {
    ByteWriter head;
    head.put<uint64_t>(contents.size());
    head.put<uint64_t>(XXH3_64bits(contents.data(), contents.size()));
    file += name;
    file += head.bytes;
    file += contents;
}

// The sections of a file, one after another.
class Sections {
  public:
    Sections(std::span<const unsigned char> bytes, const std::string& where) : bytes_(bytes), where_(where) {
        size_t n = std::min(bytes.size(), kMagic.size());
        if (bytes.empty() || std::memcmp(bytes.data(), kMagic.data(), n) != 0) {
            throw FileError(where + ": expected a state file (it begins with SAMBAST1), found something else");
        }
        uint32_t version = 0;
        if (bytes.size() < kMagic.size() + sizeof version) throw FileError(where + ": the state file is cut short");
        std::memcpy(&version, bytes.data() + kMagic.size(), sizeof version);
        if (version == 0 || version > kVersion) {
            throw FileError(where + ": a state file of version " + std::to_string(version) +
                            ", this program reads up to " + std::to_string(kVersion) + ": use a newer one");
        }
        bytes_ = bytes.subspan(kMagic.size() + sizeof version);
    }

    bool next_is(std::string_view name) const {
        return bytes_.size() >= name.size() && std::memcmp(bytes_.data(), name.data(), name.size()) == 0;
    }
    // The contents of the next section, which must be that one.
    ByteReader open(std::string_view name) {
        constexpr size_t kHead = 4 + 2 * sizeof(uint64_t);
        std::string where = where_ + ": section " + std::string(name);
        if (bytes_.size() < kHead) throw FileError(where + ": missing, the state file is cut short");
        if (!next_is(name)) {
            std::string found(reinterpret_cast<const char*>(bytes_.data()), 4);
            throw FileError(where + ": expected here, found " + in_quotes(found) + ": the state file is broken");
        }
        uint64_t length = 0, hash = 0;
        std::memcpy(&length, bytes_.data() + 4, sizeof length);
        std::memcpy(&hash, bytes_.data() + 12, sizeof hash);
        bytes_ = bytes_.subspan(kHead);
        if (length > bytes_.size()) {
            throw FileError(where + ": " + std::to_string(length) + " bytes long, but only " +
                            std::to_string(bytes_.size()) + " follow: the state file is cut short");
        }
        auto contents = bytes_.first(static_cast<size_t>(length));
        bytes_ = bytes_.subspan(contents.size());
        if (XXH3_64bits(contents.data(), contents.size()) != hash) {
            throw FileError(where + ": its hash does not fit its contents: the state file is damaged");
        }
        return {contents, where};
    }
    void end() const {
        if (!bytes_.empty()) throw FileError(where_ + ": " + std::to_string(bytes_.size()) + " bytes follow the end");
    }

  private:
    std::span<const unsigned char> bytes_;
    const std::string& where_;
};

template <class... Fields>
std::string contents_of(const Fields&... fields) {
    ByteWriter w;
    (w.put(fields), ...);
    return std::move(w.bytes);
}

std::string contents_of(const StoredSnapshot& snapshot) {
    ByteWriter w;
    put_snapshot(w, snapshot);
    return std::move(w.bytes);
}

template <class... Fields>
void read_section(Sections& sections, std::string_view name, Fields&... fields) {
    ByteReader r = sections.open(name);
    (r.get(fields), ...);
    r.end();
}

void read_snapshot(Sections& sections, std::string_view name, StoredSnapshot& snapshot) {
    ByteReader r = sections.open(name);
    get_snapshot(r, snapshot);
    r.end();
}

}  // namespace

void put_value(ByteWriter& w, const StateSource& s) {
    w.put(s.path);
    w.put(s.bytes);
    w.put(s.hash);
}

void get_value(ByteReader& r, StateSource& s) {
    r.get(s.path);
    r.get(s.bytes);
    r.get(s.hash);
}

void put_value(ByteWriter& w, const ChatMessage& m) {
    w.put(m.role);
    w.put(m.content);
    w.put(m.files);
}

void get_value(ByteReader& r, ChatMessage& m) {
    r.get(m.role);
    r.get(m.content);
    r.get(m.files);
    if (m.role != "system" && m.role != "user" && m.role != "assistant") r.fail("a message of an unknown role");
}

std::string encode_state(const StoredState& s) {
    std::string file(kMagic);
    file.append(reinterpret_cast<const char*>(&kVersion), sizeof kVersion);
    const SavedState& saved = s.saved;
    put_section(file, "FING", contents_of(s.model, s.model_name, s.tokenizer, s.chat_template, s.template_name));
    put_section(file, "CONF", contents_of(s.shape, static_cast<uint32_t>(s.ring_type)));
    put_section(file, "KIND",
                contents_of(static_cast<uint32_t>(saved.kind), s.now.position, saved.seed, saved.attempt));
    put_section(file, "MESG", contents_of(saved.messages));
    put_section(file, "PEND", contents_of(saved.text, saved.raw, saved.text_begun, saved.text_tokens));
    put_section(file, "SOUR", contents_of(saved.sources));
    put_section(file, "SUMM", contents_of(saved.summary));
    put_section(file, "STAT", contents_of(s.now));
    if (s.before_turn) put_section(file, "TURN", contents_of(*s.before_turn));
    put_section(file, "END.", "");
    return file;
}

namespace {

void read_config(ByteReader r, StoredState& s) {
    uint32_t ring_type = 0;
    r.get(s.shape);
    r.get(ring_type);
    r.end();
    std::optional<DType> type = dtype_of(ring_type);
    if (type != DType::kF32 && type != DType::kF16 && type != DType::kBF16 && type != DType::kQ8_0) {
        r.fail("an unknown ring type (" + std::to_string(ring_type) + ")");
    }
    s.ring_type = *type;
}

void read_kind(ByteReader r, StoredState& s) {
    uint32_t kind = 0;
    r.get(kind);
    r.get(s.now.position);
    r.get(s.saved.seed);
    r.get(s.saved.attempt);
    r.end();
    if (kind > static_cast<uint32_t>(StateKind::kSummarize)) r.fail("an unknown kind (" + std::to_string(kind) + ")");
    s.saved.kind = static_cast<StateKind>(kind);
}

}  // namespace

StoredState decode_state(std::span<const unsigned char> bytes, const std::string& where, bool header_only) {
    Sections sections(bytes, where);
    StoredState s;
    SavedState& saved = s.saved;
    read_section(sections, "FING", s.model, s.model_name, s.tokenizer, s.chat_template, s.template_name);
    read_config(sections.open("CONF"), s);
    read_kind(sections.open("KIND"), s);
    read_section(sections, "MESG", saved.messages);
    read_section(sections, "PEND", saved.text, saved.raw, saved.text_begun, saved.text_tokens);
    read_section(sections, "SOUR", saved.sources);
    read_section(sections, "SUMM", saved.summary);
    if (header_only) return s;
    read_snapshot(sections, "STAT", s.now);
    if (sections.next_is("TURN")) read_snapshot(sections, "TURN", s.before_turn.emplace());
    sections.open("END.").end();
    sections.end();
    return s;
}

}  // namespace samba
