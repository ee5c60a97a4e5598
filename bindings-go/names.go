package chronotick

// This file is the numbers and words that every language shares; a test holds them to include/chronotick.h.

// Status says how far a reading can be trusted.
type Status uint32

// How far a reading can be trusted.
const (
	// Synchronized: measured, and within its time of validity.
	Synchronized Status = 0
	// WarmingUp: measured, but not often enough yet.
	WarmingUp Status = 1
	// Holdover: no fresh measurement; coasting on the model, with a growing bound.
	Holdover Status = 2
	// Disrupted: the clock jumped, or the machine was moved or resumed. Do not use the value.
	Disrupted Status = 3
	// Expired: past its time of validity, or withdrawn by a daemon that stopped.
	Expired Status = 4
	// Legacy: an old page, a correction with a sigma but no hard bound.
	Legacy Status = 5
	// NoData: a daemon is there but has measured nothing.
	NoData Status = 6
)

// String is the word used in every language, such as "synchronized".
func (s Status) String() string {
	return word(uint32(s), "synchronized", "warming_up", "holdover", "disrupted", "expired", "legacy", "no_data")
}

// Trusted reports whether the bound of a reading with this status holds: synchronized or in holdover.
func (s Status) Trusted() bool { return s == Synchronized || s == Holdover }

// usable reports whether a wait may go on with a clock of this status.
func (s Status) usable() bool { return s != Disrupted && s != Expired && s != NoData }

// Source says what a correction was computed from.
type Source uint32

// What a correction was computed from.
const (
	// SourceNoData: nothing measured yet.
	SourceNoData Source = 0
	// SourceNTP: NTP measurements alone.
	SourceNTP Source = 1
	// SourceCPUModel: the short-term model.
	SourceCPUModel Source = 2
	// SourceGPUModel: the long-term model.
	SourceGPUModel Source = 3
	// SourceFusion: both models, fused.
	SourceFusion Source = 4
)

// String is the word used in every language, such as "ntp".
func (s Source) String() string {
	return word(uint32(s), "no_data", "ntp", "cpu_model", "gpu_model", "fusion")
}

// ErrorCode is an error as a number; its constants are what errors.Is is asked about.
type ErrorCode uint32

// The errors, for errors.Is. Numbers and words are the same in every language.
const (
	// ErrInvalidArgument: an argument is not allowed.
	ErrInvalidArgument ErrorCode = 1
	// ErrNotRunning: there is no clock page; the daemon does not run.
	ErrNotRunning ErrorCode = 2
	// ErrBadName: the page's name is neither one path component nor an absolute path.
	ErrBadName ErrorCode = 3
	// ErrNotAFile: the object is not a regular file.
	ErrNotAFile ErrorCode = 4
	// ErrWrongSize: the object, or the bytes given, are not 128 bytes long.
	ErrWrongSize ErrorCode = 5
	// ErrWrongOwner: the object belongs to neither root nor this user.
	ErrWrongOwner ErrorCode = 6
	// ErrIO: the operating system refused.
	ErrIO ErrorCode = 7
	// ErrPageCorrupt: the page holds something that is no clock page.
	ErrPageCorrupt ErrorCode = 8
	// ErrPageVersion: the page is newer than this library.
	ErrPageVersion ErrorCode = 9
	// ErrAnchorUnavailable: the page's anchor clock cannot be read here.
	ErrAnchorUnavailable ErrorCode = 10
	// ErrWriterDied: the page is half written and nobody finishes it.
	ErrWriterDied ErrorCode = 11
	// ErrAlreadyPast: the target of a wait has passed.
	ErrAlreadyPast ErrorCode = 12
	// ErrUntrusted: the clock is not to be trusted now.
	ErrUntrusted ErrorCode = 13
	// ErrInternal: a defect of the library.
	ErrInternal ErrorCode = 14
)

// Error is the word used in every language, such as "not_running".
func (c ErrorCode) Error() string {
	return word(uint32(c), "ok", "invalid_argument", "not_running", "bad_name", "not_a_file", "wrong_size", "wrong_owner",
		"io", "page_corrupt", "page_version", "anchor_unavailable", "writer_died", "already_past", "untrusted", "internal")
}

func word(number uint32, words ...string) string {
	if uint64(number) < uint64(len(words)) {
		return words[number]
	}
	return "unknown"
}
