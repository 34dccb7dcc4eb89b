#include "app/signals.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

namespace samba {
namespace {

std::atomic<bool> flag{false};
std::atomic<int> first_signal{0};
char bus_message[512];
std::atomic<size_t> bus_message_bytes{0};
std::atomic_flag bus_reported;

static_assert(std::atomic<int>::is_always_lock_free && std::atomic<size_t>::is_always_lock_free);

void on_end_signal(int signal) {
    int none = 0;
    if (!first_signal.compare_exchange_strong(none, signal)) _exit(128 + signal);
    flag = true;
}

// Several threads may read the file, and reach its end, at once: one says so, the others wait for its exit.
void on_bus_error(int) {
    while (bus_reported.test_and_set()) pause();
    [[maybe_unused]] ssize_t n = ::write(STDERR_FILENO, bus_message, bus_message_bytes);
    _exit(1);
}

void handle(int signal, void (*handler)(int)) {
    struct sigaction action {};
    action.sa_handler = handler;  // without SA_RESTART: a blocked read returns, and its caller looks at the flag
    sigemptyset(&action.sa_mask);
    sigaction(signal, &action, nullptr);
}

}  // namespace

void install_signals() {
    for (int signal : {SIGINT, SIGTERM, SIGHUP}) {
        struct sigaction before {};
        sigaction(signal, nullptr, &before);
        if (before.sa_handler != SIG_IGN) handle(signal, on_end_signal);  // nohup stays what it is
    }
    handle(SIGPIPE, SIG_IGN);
    set_mapped_file("");
    handle(SIGBUS, on_bus_error);
}

bool interrupted() { return flag; }
const std::atomic<bool>& interrupt_flag() { return flag; }

int interrupt_status() {
    int signal = first_signal;
    return signal == 0 ? 0 : 128 + signal;
}

bool take_interrupt() {
    int expected = SIGINT;
    if (!first_signal.compare_exchange_strong(expected, 0)) return false;
    flag = false;
    return true;
}

void set_mapped_file(const std::string& path) {
    std::string message = "samba-lm: " + (path.empty() ? std::string("a mapped file") : path) +
                          ": the file was cut short while it was in use; write it again and start anew\n";
    size_t n = std::min(message.size(), sizeof bus_message);
    bus_message_bytes = 0;
    memcpy(bus_message, message.data(), n);
    if (n < message.size()) bus_message[n - 1] = '\n';
    bus_message_bytes = n;
}

}  // namespace samba
