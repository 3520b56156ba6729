package redisstore

// Busy reports whether a round trip is in flight.
func (s *Store) Busy() bool {
	s.pipeline.mu.Lock()
	defer s.pipeline.mu.Unlock()
	return s.pipeline.busy
}

// Waiting returns the number of calls that wait for a round trip to end.
func (s *Store) Waiting() int {
	s.pipeline.mu.Lock()
	defer s.pipeline.mu.Unlock()
	if s.pipeline.waiting == nil {
		return 0
	}
	return len(s.pipeline.waiting.cmds)
}
