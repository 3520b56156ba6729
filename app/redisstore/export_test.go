package redisstore

import (
	"maps"

	"rollcall/app"
)

// ServerFindings is what Examine makes of a server's INFO.
func ServerFindings(info map[string]string) []app.Finding { return serverFindings(info) }

// Waiting is how many calls wait for a round trip to end.
func (s *Store) Waiting() int {
	s.pipeline.mu.Lock()
	defer s.pipeline.mu.Unlock()
	if s.pipeline.waiting == nil {
		return 0
	}
	return len(s.pipeline.waiting.cmds)
}

// Remembered is of how many instances the documents need not be read again.
func (s *Store) Remembered() int {
	s.recent.mu.Lock()
	defer s.recent.mu.Unlock()
	all := maps.Clone(s.recent.now)
	maps.Copy(all, s.recent.before)
	return len(all)
}
