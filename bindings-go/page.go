package chronotick

// This file reads the clock page in Go alone: opening and mapping the object, whole copies of it, finding one that was
// made anew.

import (
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/minoots/minoots/bindings-go/internal/counter"
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

// modelled gives the model of the page as it is now: last, when the page still holds what last was made of, else a new
// one. A page that could not be copied whole is errNotWhole, so is an object that was truncated after it was mapped and
// has no memory any more: the fault, which would end the program otherwise, is caught here.
func (p *sharedPage) modelled(last *model) (now *model, err error) {
	before := debug.SetPanicOnFault(true)
	ended := false
	defer func() {
		debug.SetPanicOnFault(before)
		if !ended && recover() != nil {
			now, err = nil, errNotWhole
		}
	}()
	if last != nil && p.holds(&last.copy) {
		now = last
	} else {
		now, err = p.newModel()
	}
	ended = true
	return now, err
}

// holds reports whether the page is the same as the copy. Words that are all equal to those of a whole copy are that copy,
// whatever was written meanwhile.
func (p *sharedPage) holds(copy *pageBits) bool {
	changed := p[0].Load() ^ copy[0] | p[1].Load() ^ copy[1] | p[2].Load() ^ copy[2] | p[3].Load() ^ copy[3]
	changed |= p[4].Load() ^ copy[4] | p[5].Load() ^ copy[5] | p[6].Load() ^ copy[6] | p[7].Load() ^ copy[7]
	changed |= p[8].Load() ^ copy[8] | p[9].Load() ^ copy[9] | p[10].Load() ^ copy[10] | p[11].Load() ^ copy[11]
	changed |= p[12].Load() ^ copy[12] | p[13].Load() ^ copy[13] | p[14].Load() ^ copy[14] | p[15].Load() ^ copy[15]
	return changed == 0
}

func (p *sharedPage) newModel() (*model, error) {
	var copy pageBits
	if !p.tryCopyTo(&copy) {
		return nil, errNotWhole
	}
	return modelOf(&copy)
}

var errNotWhole = failed(ErrWriterDied, "the clock page is half written and its daemon seems dead: restart chronotick-daemon")

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
	// A page of an old daemon that has measured nothing says so with its times in place. Without a correction: a writer
	// that was stopped in the middle of a write has the times in place as well.
	neverMeasured := w[wordFlags]|w[wordSequence]|w[wordUptime]|w[wordOffset]|w[wordDriftRate] == 0
	return valid && counted || neverMeasured
}

// pageReader reads the page without the C library, from any number of goroutines.
type pageReader struct {
	path    string
	mapping atomic.Pointer[mapping]
	// When a replaced page was last looked for, by the clock of monoNS; 0 is never.
	lookedNS atomic.Int64
	// The last whole page: it spares the work as long as the page is the same, and stands in when the writer dies in
	// the middle of a write.
	last atomic.Pointer[model]
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

// now reads the time. Nothing is written on an error.
func (r *pageReader) now(reading *Reading) error {
	m, err := r.model()
	if err != nil {
		return err
	}
	if err := m.now(reading); err != nil || reading.Status.usable() || !r.reattach() {
		return err
	}
	if m, err = r.model(); err != nil {
		return err
	}
	return m.now(reading)
}

func (r *pageReader) at(fromNowNS int64, reading *Reading) error {
	m, err := r.model()
	if err != nil {
		return err
	}
	return m.at(fromNowNS, reading)
}

func (r *pageReader) atSystemTime(systemNS int64, reading *Reading) error {
	m, err := r.model()
	if err != nil {
		return err
	}
	m.readAt(subtract(systemNS, m.predictionNS), 0, reading)
	return nil
}

func (m *model) now(reading *Reading) error {
	elapsedNS, slackNS, err := m.liveElapsedNS()
	if err != nil {
		return err
	}
	m.readAt(elapsedNS, slackNS, reading)
	return nil
}

func (m *model) at(fromNowNS int64, reading *Reading) error {
	elapsedNS, slackNS, err := m.liveElapsedNS()
	if err != nil {
		return err
	}
	m.readAt(add(elapsedNS, fromNowNS), slackNS, reading)
	return nil
}

// liveElapsedNS reads the page's anchor clock: the time since the prediction time, and how far that can be off.
func (m *model) liveElapsedNS() (elapsedNS, slackNS int64, err error) {
	var nowNS int64
	switch m.anchor {
	case anchorNone:
		nowNS = time.Now().UnixNano()
	case anchorBoottime:
		nowNS, slackNS = boottimeNS()
	case anchorMonotonicRaw:
		nowNS = systemClockNS(clockMonotonicRaw)
	default:
		ticks, ok := counter.Read()
		if !ok {
			return 0, 0, errNoCounter
		}
		nowNS = ticks
	}
	return m.elapsedNS(nowNS), slackNS, nil
}

// model is that of the page now. When no whole copy can be had it is the last one, which ages by itself: its status turns
// expired at its valid_until.
func (r *pageReader) model() (*model, error) {
	last := r.last.Load()
	mapped := r.mapping.Load()
	now, err := mapped.page.modelled(last)
	runtime.KeepAlive(mapped)
	if now == last && now != nil {
		return now, nil
	}
	if err == nil {
		r.last.Store(now)
		return now, nil
	}
	if err == errNotWhole {
		if r.reattach() {
			return r.model()
		}
		if last != nil {
			return last, nil
		}
	}
	return nil, err
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
		return none, errNotWhole
	}
	m, err := modelOf(&copy)
	if err != nil {
		return none, err
	}
	var nowNS int64
	switch m.anchor {
	case anchorNone:
		nowNS = clocks.RealtimeNS
	case anchorBoottime:
		nowNS = clocks.BoottimeNS
	case anchorMonotonicRaw:
		nowNS = clocks.MonotonicRawNS
	default:
		if clocks.Counter == nil {
			return none, errNoCounter
		}
		nowNS = *clocks.Counter
	}
	var reading Reading
	m.readAt(m.elapsedNS(nowNS), 0, &reading)
	return reading, nil
}

var errNoCounter = failed(ErrAnchorUnavailable, "the clock page is anchored on a hardware counter that this program cannot "+
	"read: start the daemon without the counter anchor")
