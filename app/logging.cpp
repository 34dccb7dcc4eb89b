#include "app/logging.h"

#include <fcntl.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <mutex>

#include "app/output.h"
#include "app/progress.h"
#include "kernels/error.h"

namespace samba {
namespace {

bool verbose = false, quiet = false;

// One line each, whatever the message holds; it does not get mixed up with a progress bar.
class TerminalSink : public spdlog::sinks::base_sink<std::mutex> {
  protected:
    void sink_it_(const spdlog::details::log_msg& message) override {
        hide_progress();
        std::string text(message.payload.data(), message.payload.size());
        std::string line = "samba-lm: " + visible_line(text);
        if (message.level >= spdlog::level::err && color_on_stderr()) line = "\x1b[31m" + line + "\x1b[0m";
        line += "\n";
        [[maybe_unused]] ssize_t n = ::write(STDERR_FILENO, line.data(), line.size());
    }
    void flush_() override {}
};

std::shared_ptr<spdlog::sinks::sink> file_sink(const std::string& path) {
    int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) throw FileError("--log-file " + path + ": cannot be opened: " + std::strerror(errno));
    struct stat status {};
    if (::fstat(fd, &status) == 0 && S_ISREG(status.st_mode)) ::fchmod(fd, 0600);
    ::close(fd);
    auto sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(path);
    sink->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %v");
    return sink;
}

}  // namespace

void start_logging(const CommonOptions& common) {
    verbose = common.verbose;
    quiet = common.quiet;
    auto level = verbose ? spdlog::level::debug : spdlog::level::info;
    auto terminal = std::make_shared<TerminalSink>();
    terminal->set_level(quiet ? spdlog::level::err : level);
    std::vector<spdlog::sink_ptr> sinks{terminal};
    if (!common.log_file.empty()) sinks.push_back(file_sink(common.log_file));
    auto logger = std::make_shared<spdlog::logger>("samba-lm", sinks.begin(), sinks.end());
    logger->set_level(level);
    logger->flush_on(spdlog::level::info);
    // A log that cannot be written (a full disk) does not stop the work.
    logger->set_error_handler([](const std::string&) {});
    spdlog::set_default_logger(logger);
}

bool log_is_verbose() { return verbose; }
bool log_is_quiet() { return quiet; }

}  // namespace samba
