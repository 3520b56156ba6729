package redisstore

import (
	"strconv"
	"sync/atomic"
)

// Stats counts the writes of a store since its creation.
type Stats struct {
	Commits      atomic.Int64 // changes of the registry
	Refused      atomic.Int64 // changes that Redis refused, for example after a conflict
	ListsWritten atomic.Int64 // frontends that a change or job had to write
	ListsKept    atomic.Int64 // frontends that were already right
}

// Stats returns the live counters.
func (s *Store) Stats() *Stats { return &s.stats }

// wrote adds the counts that a script has returned.
func (s *Stats) wrote(written, kept string) {
	n, _ := strconv.ParseInt(written, 10, 64)
	s.ListsWritten.Add(n)
	n, _ = strconv.ParseInt(kept, 10, 64)
	s.ListsKept.Add(n)
}
