package page

import (
	"sync"
	"time"
)

// shared has values that the readers of pages share, so that many open pages cost one read from Redis in each period. The
// zero value is empty. Its methods may be called concurrently.
type shared[V any] struct {
	mu   sync.Mutex
	held map[string]dated[V]
}

// dated is a value, and when it was read. A value that does not exist is held too.
type dated[V any] struct {
	value  V
	exists bool
	at     time.Time
}

// get returns the values of keys, at most fresh old. It calls read once for all missing ones. Concurrent calls wait for
// each other, so that one reads for all. A value that read does not return does not exist.
func (s *shared[V]) get(fresh time.Duration, keys []string, read func(missing []string) (map[string]V, error)) (map[string]V, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if missing := s.missing(fresh, keys); len(missing) > 0 {
		values, err := read(missing)
		if err != nil {
			return nil, err
		}
		for _, key := range missing {
			value, exists := values[key]
			s.held[key] = dated[V]{value, exists, time.Now()}
		}
	}
	found := make(map[string]V, len(keys))
	for _, key := range keys {
		if d := s.held[key]; d.exists {
			found[key] = d.value
		}
	}
	return found, nil
}

// missing drops the old values and returns the keys that have none.
func (s *shared[V]) missing(fresh time.Duration, keys []string) (missing []string) {
	for key, d := range s.held {
		if time.Since(d.at) > fresh {
			delete(s.held, key)
		}
	}
	for _, key := range keys {
		if _, held := s.held[key]; !held {
			missing = append(missing, key)
		}
	}
	if s.held == nil {
		s.held = map[string]dated[V]{}
	}
	return missing
}
