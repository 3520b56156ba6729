package redisstore

import (
	"time"

	"rollcall/app"
)

// ServerFindings is what Examine makes of a server's INFO.
func ServerFindings(info map[string]string) []app.Finding { return serverFindings(info) }

// LookAgainAfter sets how long Examine watches the workers.
func (s *Store) LookAgainAfter(d time.Duration) { s.lookAgain = d }

// Busy reports whether a round trip is under way.
func (s *Store) Busy() bool {
	s.pipeline.mu.Lock()
	defer s.pipeline.mu.Unlock()
	return s.pipeline.busy
}

// Waiting is how many calls wait for a round trip to end.
func (s *Store) Waiting() int {
	s.pipeline.mu.Lock()
	defer s.pipeline.mu.Unlock()
	if s.pipeline.waiting == nil {
		return 0
	}
	return len(s.pipeline.waiting.cmds)
}
