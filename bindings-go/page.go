package chronotick

// This file reads the clock page in Go alone: opening and mapping the object, whole copies of it, finding one that was
// made anew.

import (
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

const (
	defaultName = "chronotick_shm"
	nameEnv     = "CHRONOTICK_SHM"
	shmDir      = "/dev/shm"

	// How often a reader tries before it gives up: some tens of microseconds, far longer than a write takes.
	retryBudget = 2000
	// A page that was replaced is looked for at most this often.
	reattachEvery = 100 * time.Millisecond
)

// pagePath is where the page with this name is; the empty name is $CHRONOTICK_SHM, or the default one.
func pagePath(name string) (string, error) {
	if name == "" {
		if name = os.Getenv(nameEnv); name == "" {
			name = defaultName
		}
	}
	bare := strings.TrimPrefix(name, "/")
	invalid := bare == "" || bare == "." || bare == ".." || strings.ContainsRune(name, 0)
	switch {
	case !invalid && !strings.Contains(bare, "/"):
		return filepath.Join(shmDir, bare), nil
	case !invalid && strings.HasPrefix(name, "/"):
		return name, nil
	}
	return "", failed(ErrBadName, "bad clock page name %q: give a name such as chronotick_shm, or an absolute path", name)
}

// identity names an object: a page that was unlinked and made anew has another one.
type identity struct{ device, inode uint64 }

// sharedPage is the page as it lies in memory. Its words are only ever read by atomic loads.
type sharedPage [pageWords]atomic.Uint64

// mapping is a mapped object, unmapped when nothing refers to it any more.
type mapping struct {
	page     *sharedPage
	identity identity
}

func openMapping(path string) (*mapping, error) {
	const flags = syscall.O_RDONLY | syscall.O_NOFOLLOW | syscall.O_CLOEXEC | syscall.O_NONBLOCK
	fd, err := syscall.Open(path, flags, 0)
	switch err {
	case nil:
	case syscall.ENOENT:
		return nil, failed(ErrNotRunning,
			"ChronoTick daemon not running. Start it with: chronotick-daemon run (no clock page at %s)", path)
	case syscall.ELOOP:
		return nil, notAFile(path, "symbolic link")
	default:
		return nil, refused(path, err)
	}
	defer syscall.Close(fd)
	var stat syscall.Stat_t
	if err := syscall.Fstat(fd, &stat); err != nil {
		return nil, refused(path, err)
	}
	switch stat.Mode & syscall.S_IFMT {
	case syscall.S_IFREG:
	case syscall.S_IFDIR:
		return nil, notAFile(path, "directory")
	case syscall.S_IFIFO:
		return nil, notAFile(path, "named pipe")
	case syscall.S_IFCHR, syscall.S_IFBLK:
		return nil, notAFile(path, "device")
	default:
		return nil, notAFile(path, "special file")
	}
	if stat.Uid != 0 && int(stat.Uid) != syscall.Geteuid() {
		return nil, failed(ErrWrongOwner,
			"%s belongs to user %d, who is neither root nor you: it is not trusted as a clock page", path, stat.Uid)
	}
	if stat.Size != pageSize {
		return nil, failed(ErrWrongSize, "%s is %d bytes long, a clock page is 128: it was truncated or is not a clock page; "+
			"restart chronotick-daemon", path, stat.Size)
	}
	bytes, err := syscall.Mmap(fd, 0, pageSize, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil, refused(path, err)
	}
	// A mapping begins at a memory page, so its words are aligned, and 128 bytes of it were asked for.
	m := &mapping{page: (*sharedPage)(unsafe.Pointer(unsafe.SliceData(bytes))), identity: identityOf(&stat)}
	runtime.AddCleanup(m, func(bytes []byte) { syscall.Munmap(bytes) }, bytes)
	return m, nil
}

func notAFile(path, what string) error {
	return failed(ErrNotAFile, "%s is a %s, not a clock page: remove it, then start chronotick-daemon", path, what)
}

func refused(path string, err error) error {
	return failed(ErrIO, "cannot open the clock page %s: %v", path, err)
}

func identityOf(stat *syscall.Stat_t) identity {
	return identity{device: uint64(stat.Dev), inode: stat.Ino}
}

// copyTo makes one whole copy of the page, or reports that it could not. An object that was truncated after it was mapped
// has no memory any more: the fault is turned into a failure here, where it would otherwise end the program.
func (p *sharedPage) copyTo(copy *pageBits) (whole bool) {
	before := debug.SetPanicOnFault(true)
	ended := false
	defer func() {
		debug.SetPanicOnFault(before)
		if !ended && recover() != nil {
			whole = false
		}
	}()
	whole = p.tryCopyTo(copy)
	ended = true
	return whole
}

func (p *sharedPage) tryCopyTo(copy *pageBits) bool {
	for range retryBudget {
		if isV2(p[wordMagic].Load()) {
			if p.tryV2(copy) {
				return true
			}
		} else if p.tryLegacy(copy) {
			return true
		}
	}
	return false
}

// isV2 tells which protocol the writer follows. A version from the future is read by the same one, then refused by name.
func isV2(magicWord uint64) bool {
	magic := magicWord >> 32
	return magic&0xffff == magicV2&0xffff && magic>>16&0xff >= 2
}

// tryV2 is one attempt of the seqlock's reader. Go's atomic loads are sequentially consistent, which is more than the
// Acquire load, the Acquire fence and the load after it that the protocol asks for.
func (p *sharedPage) tryV2(copy *pageBits) bool {
	before := p[wordSequence].Load()
	if before>>32&1 == 1 {
		return false
	}
	for i := range copy {
		copy[i] = p[i].Load()
	}
	copy[wordSequence] = before
	return p[wordSequence].Load() == before && isV2(copy[wordMagic])
}

// tryLegacy is one attempt on a page of the old Python daemon, whose sequence has no parity and whose writer zeroes the
// record first: two equal copies are wanted, with the words that the zeroing clears set.
func (p *sharedPage) tryLegacy(copy *pageBits) bool {
	var first pageBits
	for i := range first {
		first[i] = p[i].Load()
	}
	for i := range copy {
		copy[i] = p[i].Load()
	}
	return first == *copy && copy.wholeLegacy()
}

func (w *pageBits) wholeLegacy() bool {
	if isV2(w[wordMagic]) || w[0] == 0 || w[1] == 0 || w[wordPrediction] == 0 || w[wordValidUntil] == 0 {
		return false
	}
	valid := w[wordFlags]&flagValid != 0
	counted := w.high(wordSequence) != 0 && w[wordUptime] != 0
	// A page of an old daemon that has measured nothing says so with its times in place.
	neverMeasured := w[wordFlags] == 0 && w[wordSequence] == 0 && w[wordUptime] == 0
	return valid && counted || neverMeasured
}

// pageReader reads the page without the C library, from any number of goroutines.
type pageReader struct {
	path    string
	mapping atomic.Pointer[mapping]
	// When a replaced page was last looked for, by the clock of monoNS; 0 is never.
	lookedNS atomic.Int64
	// The last whole copy, for when the writer dies in the middle of a write. Whoever finds the lock taken need not
	// wait: the other goroutine stores as good a copy.
	lastGood struct {
		sync.Mutex
		sequence atomic.Uint32
		copy     pageBits
	}
}

func openPage(name string) (*pageReader, error) {
	path, err := pagePath(name)
	if err != nil {
		return nil, err
	}
	m, err := openMapping(path)
	if err != nil {
		return nil, err
	}
	reader := &pageReader{path: path}
	reader.mapping.Store(m)
	return reader, nil
}

func (r *pageReader) now() (Reading, error) {
	reading, err := r.read()
	if (err != nil || !reading.Status.usable()) && r.reattach() {
		return r.read()
	}
	return reading, err
}

func (r *pageReader) read() (Reading, error) {
	var copy pageBits
	m := r.mapping.Load()
	whole := m.page.copyTo(&copy)
	runtime.KeepAlive(m)
	if !whole && !r.recall(&copy) {
		return Reading{Status: NoData}, writerDied()
	}
	if !copy.sound() {
		return Reading{Status: NoData}, copy.fault()
	}
	if whole && copy.high(wordSequence) != r.lastGood.sequence.Load() {
		r.remember(&copy)
	}
	nowNS, slackNS, err := liveClock(copy.anchorClock())
	if err != nil {
		return Reading{Status: NoData}, err
	}
	return copy.readAt(copy.elapsedNS(nowNS), slackNS), nil
}

func writerDied() error {
	return failed(ErrWriterDied, "the clock page is half written and its daemon seems dead: restart chronotick-daemon")
}

func (r *pageReader) remember(copy *pageBits) {
	if r.lastGood.TryLock() {
		r.lastGood.copy = *copy
		r.lastGood.sequence.Store(copy.high(wordSequence))
		r.lastGood.Unlock()
	}
}

// recall gives the last whole copy, which ages by itself: its status turns expired at its valid_until.
func (r *pageReader) recall(copy *pageBits) bool {
	r.reattach()
	r.lastGood.Lock()
	defer r.lastGood.Unlock()
	*copy = r.lastGood.copy
	return r.lastGood.sequence.Load() != 0
}

// reattach looks whether another object has the page's name, and maps it if so. It reports whether it did.
func (r *pageReader) reattach() bool {
	nowNS := monoNS()
	lookedNS := r.lookedNS.Load()
	if lookedNS != 0 && nowNS-lookedNS < int64(reattachEvery) || !r.lookedNS.CompareAndSwap(lookedNS, nowNS) {
		return false
	}
	var stat syscall.Stat_t
	if syscall.Lstat(r.path, &stat) != nil || identityOf(&stat) == r.mapping.Load().identity {
		return false
	}
	m, err := openMapping(r.path)
	if err != nil {
		// The old page stays mapped; its status already says that it cannot be trusted.
		return false
	}
	r.mapping.Store(m)
	return true
}

// evaluatePure computes a reading of a page's bytes in Go alone.
func evaluatePure(page []byte, clocks Clocks) (Reading, error) {
	none := Reading{Status: NoData}
	if len(page) != pageSize {
		return none, failed(ErrWrongSize, "a clock page is 128 bytes long, not %d", len(page))
	}
	var copy pageBits
	for i := range copy {
		for at, b := range page[i*8 : i*8+8] {
			copy[i] |= uint64(b) << (8 * at)
		}
	}
	// Nobody writes to this copy: it is whole or it never will be.
	if v2 := isV2(copy[wordMagic]); v2 && copy.high(wordSequence)&1 == 1 || !v2 && !copy.wholeLegacy() {
		return none, writerDied()
	}
	if !copy.sound() {
		return none, copy.fault()
	}
	var nowNS int64
	switch copy.anchorClock() {
	case anchorNone:
		nowNS = clocks.RealtimeNS
	case anchorBoottime:
		nowNS = clocks.BoottimeNS
	case anchorMonotonicRaw:
		nowNS = clocks.MonotonicRawNS
	default:
		if clocks.Counter == nil {
			return none, anchorUnavailable()
		}
		nowNS = *clocks.Counter
	}
	return copy.readAt(copy.elapsedNS(nowNS), 0), nil
}

func anchorUnavailable() error {
	return failed(ErrAnchorUnavailable, "the clock page is anchored on a hardware counter that this program cannot read: "+
		"start the daemon without the counter anchor")
}
