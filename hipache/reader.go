package hipache

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// ErrNoFrontend means that a host has no list, neither its own nor a wildcard's.
var ErrNoFrontend = errors.New("frontend not found")

// ErrWrongType means that the key of a host's own list is not a list.
var ErrWrongType = errors.New("the key is not a list")

// Frontend is the information from which a proxy picks the backend of a request.
type Frontend struct {
	Requested  string // the host of the lookup and of the dead set
	Host       string // the host of the list: Requested or one of its wildcards
	Identifier string
	Backends   []Backend // by position; none if the list contains the identifier only
}

// Backend is one entry of a list.
type Backend struct {
	URL      string // as stored, not necessarily a valid URL
	Position int
	Dead     bool // marked: no traffic
}

// Reader reads frontends as a proxy does.
type Reader struct {
	redis redis.Cmdable
	keys  Keys
}

// NewReader returns a Reader. r may be a replica.
func NewReader(r redis.Cmdable, k Keys) *Reader { return &Reader{redis: r, keys: k} }

// Found is the result of the lookup of one host.
type Found struct {
	Frontend Frontend
	Err      error
}

// Lookup returns the frontend of a requested host; see RequestedHost. It reads the list and
// the dead set in one transaction and one round trip, because marks are positions in exactly
// that list.
//
// It returns ErrNoFrontend, ErrWrongType, or an error of Redis. It ignores a wildcard or a
// dead set of the wrong type, so that neither disables a vhost whose own list is valid.
func (r *Reader) Lookup(ctx context.Context, requested string) (Frontend, error) {
	found := r.LookupAll(ctx, requested)[0]
	return found.Frontend, found.Err
}

// LookupAll is Lookup for several hosts in the same round trip.
func (r *Reader) LookupAll(ctx context.Context, requested ...string) []Found {
	questions := make([]question, len(requested))
	// The error of the pipeline is only the first error of its commands.
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

// question contains the commands of one host's lookup.
type question struct {
	requested string
	hosts     []string // hosts whose lists can serve the request, first match first
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
	if err := q.failure(); err != nil {
		return Frontend{}, fmt.Errorf("look up %s: %w", q.requested, err)
	}
	for i, list := range q.lists {
		if entries := list.Val(); len(entries) > 0 {
			return newFrontend(q.requested, q.hosts[i], entries, q.dead.Val()), nil
		}
	}
	return Frontend{}, fmt.Errorf("%s: %w", q.requested, ErrNoFrontend)
}

// failure returns the first error of the commands. A key of the wrong type is not an error.
func (q *question) failure() error {
	for _, cmd := range append(q.lists, q.dead) {
		if err := cmd.Err(); err != nil && !wrongType(err) {
			return err
		}
	}
	return nil
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
		if n, ok := ParsePosition(member); ok && n < len(f.Backends) {
			f.Backends[n].Dead = true
		}
	}
	return f
}

// ParsePosition parses a member of a dead set as Hipache does, with JavaScript's parseInt: it
// reads the number at the start and ignores the rest.
func ParsePosition(member string) (position int, ok bool) {
	s, negative := strings.CutPrefix(strings.TrimSpace(member), "-")
	if !negative {
		s = strings.TrimPrefix(s, "+")
	}
	base, digits := 10, "0123456789"
	if len(s) > 1 && strings.EqualFold(s[:2], "0x") {
		base, digits, s = 16, "0123456789abcdefABCDEF", s[2:]
	}
	n, err := strconv.ParseInt(s[:len(s)-len(strings.TrimLeft(s, digits))], base, 32)
	return int(n), err == nil && (n == 0 || !negative)
}
