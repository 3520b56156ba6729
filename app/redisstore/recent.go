package redisstore

import (
	"crypto/sha256"
	"sync"
	"time"

	"rollcall/app"
)

// forgetAfter is how long a document that is not seen again is remembered at least.
const forgetAfter = time.Minute

// recent remembers what documents said: most instances are claimed again as they were, and
// to decode them would be a good part of what a worker does.
type recent struct {
	mu          sync.Mutex
	now, before map[string]remembered // by id
	since       time.Time
}

type remembered struct {
	digest   [sha256.Size]byte // of the document
	instance *app.Held
}

// decode is decode of a document that may have been seen before. The instance of a document
// that cannot be read has nothing but an id; the error comes with the first of such calls.
func (r *recent) decode(id, doc string, at time.Time) (app.Instance, error) {
	digest := sha256.Sum256([]byte(doc))
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now == nil || at.Sub(r.since) > forgetAfter { // what was not seen between two turns is forgotten
		r.now, r.before, r.since = make(map[string]remembered, len(r.now)), r.now, at
	}
	m, known := r.now[id]
	if !known {
		m = r.before[id]
	}
	if m.digest != digest {
		i, err := decode(id, doc)
		if err != nil {
			i = app.Instance{ID: id}
		}
		m = remembered{digest, app.Hold(i)}
		r.now[id] = m
		return i, err
	}
	if !known {
		r.now[id] = m
	}
	return m.instance.Instance(), nil
}
