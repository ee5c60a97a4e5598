//go:build !cgo

package chronotick

const version = "0.1.0"

func openDefault(name string) (reader, error) { return openPage(name) }

func evaluateDefault(page []byte, clocks Clocks) (Reading, error) { return evaluatePure(page, clocks) }
