// Without a device there is nothing to test: exit 77, which CTest counts as skipped.
#define CATCH_CONFIG_RUNNER
#include <catch2/catch.hpp>
#include <iostream>

#include "kernels/cuda/backend.h"
#include "kernels/error.h"

int main(int argc, char** argv) {
    try {
        std::cerr << samba::make_cuda_backend()->description() << '\n';
    } catch (const samba::DeviceError& e) {
        std::cerr << "skipped: " << e.what() << '\n';
        return 77;
    }
    return Catch::Session().run(argc, argv);
}
