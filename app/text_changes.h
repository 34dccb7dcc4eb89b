// What had to be changed in an input text, told on stderr.
#pragma once
#include <string>

#include "engine/reader.h"

namespace samba {

// `where` names the text: "standard input", a file.
void tell_changes(const TextChanges& changes, const std::string& where);

}  // namespace samba
