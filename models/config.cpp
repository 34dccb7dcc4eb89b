#include "models/config.h"

namespace samba {

const char* mixer_name(Mixer mixer) {
    switch (mixer) {
        case Mixer::kNone:
            return "";
        case Mixer::kMamba:
            return "mamba";
        case Mixer::kAttention:
            return "attention";
        case Mixer::kGla:
            return "gla";
        case Mixer::kRetention:
            return "retention";
        case Mixer::kMega:
            return "mega";
    }
    return "";
}

}  // namespace samba
