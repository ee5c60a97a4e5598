#include "textflag.h"

// func read() int64
//
// The virtual count of the generic timer. The barrier keeps the processor from reading it ahead of the loads before it.
TEXT ·read(SB), NOSPLIT, $0-8
	ISB  $15
	MRS  CNTVCT_EL0, R0
	MOVD R0, ret+0(FP)
	RET
