package boot

import (
	"runtime"
	"testing"
)

// It does not run beside other tests: they share the process's memory.
func TestMemoryOfABurstIsReturned(t *testing.T) { //nolint:paralleltest // see above
	var m memory
	if err := m.check(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := heldMemory()
	var burst [][]byte
	for heldMemory() < 3*before+2*returnAbove {
		burst = append(burst, make([]byte, 1<<20))
	}
	held := heldMemory()
	runtime.KeepAlive(burst)
	burst = nil
	if err := m.check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if is := heldMemory(); is > held/2+returnAbove {
		t.Errorf("%d MiB of %d are held after the burst", is>>20, held>>20)
	}
}
