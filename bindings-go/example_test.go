package chronotick_test

import (
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	chronotick "github.com/minoots/minoots/bindings-go"
)

// TestMain gives the examples a page, so that they run as they would beside a daemon.
func TestMain(m *testing.M) {
	directory, err := os.MkdirTemp("", "chronotick")
	if err != nil {
		log.Fatal(err)
	}
	page := filepath.Join(directory, "page")
	if err := errors.Join(os.WriteFile(page, pageBytes(offset), 0o600), os.Setenv("CHRONOTICK_SHM", page)); err != nil {
		log.Fatal(err)
	}
	code := m.Run()
	os.RemoveAll(directory)
	os.Exit(code)
}

func Example() {
	client, err := chronotick.Attach("") // $CHRONOTICK_SHM, or the default page
	if errors.Is(err, chronotick.ErrNotRunning) {
		log.Fatal("start it with: chronotick-daemon run")
	} else if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	now, err := client.Now()
	if err != nil {
		log.Fatal(err)
	}
	log.Println(now.Corrected(), "is between", now.Earliest(), "and", now.Latest())
	fmt.Println(now.Status, "within", now.MaxError().Round(time.Millisecond))
	// Output:
	// synchronized within 1ms
}

// The reading of given bytes at given clocks: what a client computes, without a clock or a daemon.
func ExampleEvaluate() {
	_, err := chronotick.Evaluate([]byte("not a page"), chronotick.Clocks{})
	fmt.Println(err)
	fmt.Println(errors.Is(err, chronotick.ErrWrongSize))
	// Output:
	// chronotick: a clock page is 128 bytes long, not 10
	// true
}

func TestTheReadmeShowsTheExampleAsItIs(t *testing.T) {
	read := func(path string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	_, example, _ := strings.Cut(read("example_test.go"), "func Example() {\n")
	example, _, found := strings.Cut(example, "\t// Output:")
	if !found || !strings.Contains(read("README.md"), "```go\n"+strings.ReplaceAll("\n"+example, "\n\t", "\n")[1:]+"```") {
		t.Error("copy the body of Example into README.md")
	}
}
