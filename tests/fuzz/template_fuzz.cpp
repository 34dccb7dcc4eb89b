// Chat templates and prompts out of files: read, or refused with a FileError; what is read survives being written.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "engine/chat_template.h"
#include "engine/prompts.h"
#include "kernels/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    std::string text(reinterpret_cast<const char*>(data), size);
    try {
        auto t = samba::ChatTemplate::parse(text, "input");
        if (samba::ChatTemplate::parse(t.json(), "again").json() != t.json()) std::abort();
        t.control_pieces();
    } catch (const samba::FileError&) {
    }
    try {
        auto prompt = samba::PromptText::parse(text, "input");
        std::string filled = prompt.fill("T", "Q");
        if (prompt.has_text() && filled != prompt.before_text("Q") + "T" + prompt.after_text("Q")) std::abort();
    } catch (const samba::FileError&) {
    }
    return 0;
}
