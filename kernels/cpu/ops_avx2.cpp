#include "kernels/cpu/op_table.h"

namespace samba {

const OpKernels kOpsAvx2 = kTable;

}  // namespace samba
