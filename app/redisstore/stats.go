package redisstore

import (
	"strconv"
	"sync/atomic"
)

// Stats counts what a store has done since it was made.
type Stats struct {
	Commits      atomic.Int64 // changes of the registry
	Refused      atomic.Int64 // changes that were not made: decided on what was no longer so
	ListsWritten atomic.Int64 // lists of vhosts that a change or job had to write
	ListsKept    atomic.Int64 // and those that were as they should be
}

// Stats returns the counters, which go on counting.
func (s *Store) Stats() *Stats { return &s.stats }

// wrote counts lists as a script has counted them.
func (s *Stats) wrote(written, kept string) {
	n, _ := strconv.ParseInt(written, 10, 64)
	s.ListsWritten.Add(n)
	n, _ = strconv.ParseInt(kept, 10, 64)
	s.ListsKept.Add(n)
}
