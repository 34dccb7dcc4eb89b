#include "kernels/cpu/op_table.h"

namespace samba {

const OpKernels kOpsPortable = kTable;

}  // namespace samba
