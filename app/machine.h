// What the operating system says about this machine.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace samba {

std::string cpu_name();                   // as /proc/cpuinfo has it
std::vector<std::string> cpu_features();  // those that kernels are written for, as /proc/cpuinfo names them
int64_t total_memory();                   // bytes
int64_t available_memory();
std::string nvidia_driver();  // one line; empty: none

}  // namespace samba
