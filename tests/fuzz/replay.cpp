// Runs a fuzz target without libFuzzer: every seed file of the named folders as it is, cut short, and damaged by a
// fixed sequence of random edits. usage: fuzz_NAME FOLDER…; exit 1 when there is no seed.
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <set>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Bytes = std::vector<uint8_t>;

Bytes read_file(const std::filesystem::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

void run(const Bytes& bytes) { LLVMFuzzerTestOneInput(bytes.data(), bytes.size()); }

void run_cut_short(const Bytes& seed, int cuts) {
    for (int i = 0; i < cuts; ++i) {
        size_t n = seed.size() * static_cast<size_t>(i) / static_cast<size_t>(cuts);
        run(Bytes(seed.begin(), seed.begin() + static_cast<std::ptrdiff_t>(n)));
    }
}

// One to four bytes changed: to values at which lengths, counts and text break, to random ones, or by one bit.
void run_damaged(const Bytes& seed, int times, std::mt19937& random) {
    if (seed.empty()) return;
    const uint8_t awkward[] = {0x00, 0x01, 0x7f, 0x80, 0xff, '"', '{', '}', '[', '\\', '\n'};
    for (int i = 0; i < times; ++i) {
        Bytes bytes = seed;
        for (uint32_t edits = 1 + random() % 4; edits > 0; --edits) {
            uint8_t& byte = bytes[random() % bytes.size()];
            switch (random() % 3) {
                case 0:
                    byte = awkward[random() % std::size(awkward)];
                    break;
                case 1:
                    byte = static_cast<uint8_t>(random());
                    break;
                default:
                    byte = static_cast<uint8_t>(byte ^ (1u << random() % 8));
                    break;
            }
        }
        run(bytes);
    }
}

}  // namespace

int main(int argc, char** argv) {
    std::mt19937 random(1);
    size_t seeds = 0;
    for (int i = 1; i < argc; ++i) {
        if (!std::filesystem::is_directory(argv[i])) continue;
        std::set<std::filesystem::path> files;  // in a fixed order, so that a failure comes again
        for (const auto& entry : std::filesystem::directory_iterator(argv[i])) files.insert(entry.path());
        for (const auto& file : files) {
            Bytes seed = read_file(file);
            run(seed);
            run_cut_short(seed, 64);
            run_damaged(seed, 500, random);
            ++seeds;
        }
    }
    std::printf("%zu seeds\n", seeds);
    return seeds > 0 ? 0 : 1;
}
