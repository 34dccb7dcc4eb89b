// The message of an error that must come.
#pragma once
#include <catch2/catch.hpp>
#include <string>

#include "kernels/error.h"

namespace samba {

// Runs f, which must throw E, and gives the message: one line.
template <class E, class F>
std::string error_of(F&& f) {
    try {
        f();
    } catch (const E& e) {
        std::string message = e.what();
        CHECK(message.find('\n') == std::string::npos);
        return message;
    }
    FAIL("no error");
    return "";
}

}  // namespace samba
