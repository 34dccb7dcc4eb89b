// SIGINT, SIGTERM and SIGHUP ask a command to end in order (handled alike); the second one exits at once. SIGPIPE is
// ignored: writes fail instead. SIGBUS, a mapped file that was cut short, ends with one line and exit 1.
#pragma once
#include <atomic>
#include <string>

namespace samba {

void install_signals();

// True from the first signal on. Looked at between tokens and chunks.
bool interrupted();
// The same flag, for jobs that take one (convert, quantize).
const std::atomic<bool>& interrupt_flag();
// 130, 143 or 129 after a signal, else 0.
int interrupt_status();
// chat: the signal stopped a reply, not the program. True if that signal was SIGINT; others stay set.
bool take_interrupt();

// The file that a SIGBUS would be about.
void set_mapped_file(const std::string& path);

}  // namespace samba
