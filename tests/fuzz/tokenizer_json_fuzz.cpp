// tokenizer.json: read, or refused with a FileError; what is read makes a tokenizer or is refused, too.
#include "models/tokenizer_json.h"

#include <cstdint>
#include <string_view>

#include "engine/tokenizer.h"
#include "kernels/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    try {
        auto tokenizer = samba::read_tokenizer_json({reinterpret_cast<const char*>(data), size}, "input");
        samba::Tokenizer t(tokenizer, static_cast<int64_t>(tokenizer.tokens.size()), {});
        t.decode(t.encode("It's  <|endoftext|> e\u0301\n"));
    } catch (const samba::FileError&) {
    }
    return 0;
}
