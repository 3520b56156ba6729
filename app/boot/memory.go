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

// memory returns memory to the system when a burst of calls is over. The runtime keeps freed memory for minutes, which
// counts against the limit of a container meanwhile.
type memory struct {
	least     uint64 // bytes that the process held when it held least, since memory was last returned
	allocated uint64 // since the process began, as of the last check
}

// check returns memory if the process holds more than twice what it needed, and returnAbove more, and allocates little.
func (m *memory) check(context.Context) error {
	is, allocated := heldMemory()
	idle := allocated-m.allocated < is/4
	m.allocated = allocated
	if m.least == 0 || is < m.least {
		m.least = is
	}
	if idle && is > 2*m.least+returnAbove {
		debug.FreeOSMemory()
		m.least, m.allocated = heldMemory() // the rest is in use: the registry has grown
	}
	return nil
}

// heldMemory returns how many bytes the runtime holds from the system, and how many it has allocated since the process began.
func heldMemory() (held, allocated uint64) {
	samples := []usage.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}, {Name: "/gc/heap/allocs:bytes"}}
	usage.Read(samples)
	return samples[0].Value.Uint64() - samples[1].Value.Uint64(), samples[2].Value.Uint64()
}
