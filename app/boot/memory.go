package boot

import (
	"context"
	"runtime/debug"
	usage "runtime/metrics"
	"time"
)

const (
	returnEvery = 5 * time.Second
	returnAbove = 32 << 20 // bytes; less is not worth a collection
)

// memory returns memory to the system after a burst of calls. The runtime keeps freed memory for minutes, which counts
// against the limit of a container meanwhile.
type memory struct {
	least uint64 // bytes that the process held when it last held least, since memory was last returned
}

// check returns memory if the process holds more than twice the memory that it needed, and returnAbove more.
func (m *memory) check(context.Context) error {
	is := heldMemory()
	if m.least == 0 || is < m.least {
		m.least = is
	}
	if is > 2*m.least+returnAbove {
		debug.FreeOSMemory()
		m.least = heldMemory() // the rest is in use: the registry has grown
	}
	return nil
}

// heldMemory returns the memory that the runtime holds from the system, in bytes.
func heldMemory() uint64 {
	samples := []usage.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	usage.Read(samples)
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}
