// What a job that takes over a second shows on stderr: a bar on a terminal; with --verbose a line every few seconds
// elsewhere; nothing with --quiet.
#pragma once
#include <cstdint>
#include <string>

namespace samba {

class Progress {
  public:
    // `unit` after the rate ("tokens", "B" shows sizes); total 0: unknown, so no bar and no time left.
    Progress(std::string what, std::string unit, uint64_t total = 0);
    ~Progress();  // the bar goes away
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    void update(uint64_t done, const std::string& note = "");  // cheap: draws at most ten times a second
    void set_total(uint64_t total) { total_ = total; }
    double seconds() const;  // since it began

  private:
    std::string what_, unit_;
    uint64_t total_;
    double begun_, last_;
    bool shown_ = false;

    std::string line(uint64_t done, const std::string& note) const;
};

// The bar on the screen, if any, goes away until its next update: called before anything else is written to the
// terminal.
void hide_progress();

}  // namespace samba
