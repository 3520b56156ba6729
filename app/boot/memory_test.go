package boot

import (
	"runtime"
	"testing"
)

// It does not run beside other tests, which share the process's memory.
func TestMemoryOfABurstIsReturnedWhenTheBurstIsOver(t *testing.T) { //nolint:paralleltest // see above
	var m memory
	check := func() uint64 {
		t.Helper()
		if err := m.check(t.Context()); err != nil {
			t.Fatal(err)
		}
		held, _ := heldMemory()
		return held
	}
	check()
	before := check()
	var burst [][]byte
	for held := before; held < 3*before+2*returnAbove; held, _ = heldMemory() {
		burst = append(burst, make([]byte, 1<<20))
	}
	held := check()
	if held < 3*before {
		t.Errorf("%d MiB are held during the burst, want what it needs", held>>20)
	}
	runtime.KeepAlive(burst) // not used below: it is garbage from here on
	if is := check(); is > held/2+returnAbove {
		t.Errorf("%d MiB of %d are held after the burst", is>>20, held>>20)
	}
}
