#include "models/json_text.h"

#include <set>

#include "kernels/error.h"
#include "models/mapped_file.h"
#include "models/quote.h"

namespace samba {

namespace {

constexpr size_t kDeepest = 64;

// nlohmann's parser keeps its own stack, but copying and destroying its values recurses: too deep a text is refused
// first.
void check_depth(std::string_view text, const std::string& where) {
    size_t depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < text.size(); ++i) {
        char c = text[i];
        if (in_string) {
            if (c == '\\') ++i;
            if (c == '"') in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > kDeepest)
                throw FileError(in_quotes(where) + ": JSON nested deeper than " + std::to_string(kDeepest) + " levels");
        } else if ((c == ']' || c == '}') && depth > 0) {
            --depth;
        }
    }
}

}  // namespace

nlohmann::json parse_json(std::string_view text, const std::string& where) {
    using nlohmann::json;
    check_depth(text, where);
    std::vector<std::set<std::string>> keys;
    auto watch = [&](int, json::parse_event_t event, json& value) {
        if (event == json::parse_event_t::object_start) keys.emplace_back();
        if (event == json::parse_event_t::object_end) keys.pop_back();
        if (event == json::parse_event_t::key && !keys.back().insert(value.get<std::string>()).second) {
            throw FileError(in_quotes(where) + ": the key " + in_quotes(value.get<std::string>()) + " comes twice");
        }
        return true;
    };
    try {
        return json::parse(text.begin(), text.end(), watch);
    } catch (const json::parse_error& e) {
        throw FileError(in_quotes(where) + ": not valid JSON at byte " + std::to_string(e.byte));
    } catch (const json::out_of_range&) {  // 1e999
        throw FileError(in_quotes(where) + ": a JSON number is out of range");
    }
}

std::string read_text_file(const std::string& path) {
    constexpr size_t kMost = size_t{64} << 20;
    MappedFile file(path, MappedFile::Use::kOnce);
    if (file.bytes().size() > kMost) throw FileError(in_quotes(path) + ": larger than 64 MiB, which no such file is");
    return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

}  // namespace samba
