package hipache

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// ErrNoFrontend means that no list answers for a host: neither its own nor a
// wildcard's.
var ErrNoFrontend = errors.New("frontend not found")

// ErrWrongType means that the key of a host's own list is not a list.
var ErrWrongType = errors.New("the key is not a list")

// Frontend is what a proxy knows when it picks a backend for a request.
type Frontend struct {
	Requested  string // the host that was looked up; the dead set goes by it
	Host       string // the host of the list that answered: Requested or one of its wildcards
	Identifier string
	Backends   []Backend // in slot order; none if the list holds the identifier only
}

// Backend is one slot of a list.
type Backend struct {
	URL      string // as stored; anything may have been
	Position int
	Dead     bool // marked: no traffic
}

// Reader reads frontends as a proxy does.
type Reader struct {
	redis redis.Cmdable
	keys  Keys
}

// NewReader returns a Reader. A replica will do.
func NewReader(r redis.Cmdable, k Keys) *Reader { return &Reader{redis: r, keys: k} }

// Found is the answer for one of several hosts.
type Found struct {
	Frontend Frontend
	Err      error
}

// Lookup finds who answers for a requested host, in one round trip and as of one
// moment: a mark must not be read with the list before or after the one it counts
// in. See RequestedHost for what to pass.
//
// It returns ErrNoFrontend, ErrWrongType, or an error of Redis. A wildcard of the
// wrong type is passed over, and so is a dead set: neither may take down a vhost
// whose own list is fine.
func (r *Reader) Lookup(ctx context.Context, requested string) (Frontend, error) {
	found := r.LookupAll(ctx, requested)[0]
	return found.Frontend, found.Err
}

// LookupAll is Lookup for several hosts in the same round trip.
func (r *Reader) LookupAll(ctx context.Context, requested ...string) []Found {
	questions := make([]question, len(requested))
	// The error of the whole would only be the first of its commands'.
	_, _ = r.redis.TxPipelined(ctx, func(p redis.Pipeliner) error {
		for i, host := range requested {
			questions[i] = r.ask(ctx, p, host)
		}
		return nil
	})
	answers := make([]Found, len(requested))
	for i := range questions {
		answers[i].Frontend, answers[i].Err = r.answer(&questions[i])
	}
	return answers
}

// question is what is asked for one host.
type question struct {
	requested string
	hosts     []string // whose lists can answer, first match first
	lists     []*redis.StringSliceCmd
	dead      *redis.StringSliceCmd
}

func (r *Reader) ask(ctx context.Context, p redis.Pipeliner, requested string) question {
	q := question{requested: requested, hosts: Lookup(requested)}
	q.lists = make([]*redis.StringSliceCmd, len(q.hosts))
	for i, host := range q.hosts {
		q.lists[i] = p.LRange(ctx, r.keys.Frontend(host), 0, -1)
	}
	q.dead = p.SMembers(ctx, r.keys.Dead(requested))
	return q
}

func (r *Reader) answer(q *question) (Frontend, error) {
	if wrongType(q.lists[0].Err()) {
		return Frontend{}, fmt.Errorf("%s: %w", r.keys.Frontend(q.requested), ErrWrongType)
	}
	for _, cmd := range append(q.lists, q.dead) {
		if err := cmd.Err(); err != nil && !wrongType(err) {
			return Frontend{}, fmt.Errorf("look up %s: %w", q.requested, err)
		}
	}
	for i, list := range q.lists {
		if entries := list.Val(); len(entries) > 0 {
			return newFrontend(q.requested, q.hosts[i], entries, q.dead.Val()), nil
		}
	}
	return Frontend{}, fmt.Errorf("%s: %w", q.requested, ErrNoFrontend)
}

func wrongType(err error) bool { return redis.HasErrorPrefix(err, "WRONGTYPE") }

func newFrontend(requested, host string, entries, dead []string) Frontend {
	f := Frontend{Requested: requested, Host: host, Identifier: entries[0]}
	if len(entries) == 1 {
		return f
	}
	f.Backends = make([]Backend, len(entries)-1)
	for i, url := range entries[1:] {
		f.Backends[i] = Backend{URL: url, Position: i}
	}
	for _, member := range dead {
		if slot, ok := ParsePosition(member); ok && slot < len(f.Backends) {
			f.Backends[slot].Dead = true
		}
	}
	return f
}

// ParsePosition reads a member of a dead set as Hipache does, with JavaScript's
// parseInt: the number at the start counts and what follows is ignored.
func ParsePosition(member string) (slot int, ok bool) {
	s := strings.TrimSpace(member)
	negative := strings.HasPrefix(s, "-")
	if negative || strings.HasPrefix(s, "+") {
		s = s[1:]
	}
	base, digits := 10, "0123456789"
	if len(s) > 1 && s[0] == '0' && s[1]|0x20 == 'x' {
		base, digits, s = 16, "0123456789abcdefABCDEF", s[2:]
	}
	n, err := strconv.ParseInt(s[:len(s)-len(strings.TrimLeft(s, digits))], base, 32)
	return int(n), err == nil && (n == 0 || !negative)
}
