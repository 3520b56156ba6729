package redisstore

import (
	"context"
	"crypto/sha1" //nolint:gosec // it is what scripts in Redis have, and nobody gains by a collision
	"encoding/hex"
	"sync"
	"time"

	"rollcall/app"
)

// forgetAfter is how long a document that is not asked for is remembered at least.
const forgetAfter = time.Minute

// recent remembers what the documents that were read last say, by id.
type recent struct {
	mu          sync.Mutex
	now, before map[string]remembered
	since       time.Time
}

type remembered struct {
	digest   [sha1.Size]byte
	instance *app.Held
}

// recall returns an instance, or nil if its document was another one.
func (r *recent) recall(id string, digest [sha1.Size]byte) *app.Held {
	m, known := r.now[id]
	if !known {
		if m, known = r.before[id]; known {
			r.now[id] = m
		}
	}
	if m.digest != digest {
		return nil
	}
	return m.instance
}

// turn makes room: what was not recalled between two turns is forgotten.
func (r *recent) turn(at time.Time) {
	if r.now == nil || at.Sub(r.since) > forgetAfter {
		r.now, r.before, r.since = make(map[string]remembered, len(r.now)), r.now, at
	}
}

// instances returns those that have these ids and whose documents have these digests, in
// the same order. What is not remembered is read as it stands by now; nil is one that is
// gone then, or cannot be read.
func (s *Store) instances(ctx context.Context, ids, digests []string) ([]*app.Held, error) {
	s.recent.mu.Lock()
	defer s.recent.mu.Unlock()
	s.recent.turn(s.now())
	instances := make([]*app.Held, len(ids))
	var others []string
	var places []int
	for n, id := range ids {
		var digest [sha1.Size]byte
		_, _ = hex.Decode(digest[:], []byte(digests[n])) // the script wrote it
		if instances[n] = s.recent.recall(id, digest); instances[n] == nil {
			others, places = append(others, id), append(places, n)
		}
	}
	if len(others) == 0 {
		return instances, nil
	}
	docs, err := s.documents(ctx, others)
	if err != nil {
		return nil, err
	}
	for n, doc := range docs {
		text, there := doc.(string)
		if !there {
			continue
		}
		i, err := decode(others[n], text)
		if err != nil { // the others are not to wait for it
			s.log.ErrorContext(ctx, "an instance cannot be read and is not checked", "instance", others[n], "err", err)
			continue
		}
		instances[places[n]] = app.Hold(i)
		s.recent.now[i.ID] = remembered{sha1.Sum([]byte(text)), instances[places[n]]} //nolint:gosec // as above
	}
	return instances, nil
}
