#include "textflag.h"

// func read() int64
//
// The time-stamp counter. Without a fence the processor may read it some nanoseconds before the loads around it are done,
// which is far below the bound of any reading.
TEXT ·read(SB), NOSPLIT, $0-8
	RDTSC
	SHLQ $32, DX
	ORQ  DX, AX
	MOVQ AX, ret+0(FP)
	RET
