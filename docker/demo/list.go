package main

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
)

const (
	listKey = "demo-list"
	// longest is the number of entries at which the older half of the list is deleted: every answer
	// contains the whole list.
	longest = 400
)

// list is the list in memcached, one entry per line. All services share it, so every change is
// one atomic command.
type list struct {
	found *finder

	mu     sync.Mutex // guards the fields below
	addr   string
	client *memcache.Client
}

func newList(f *finder) *list { return &list{found: f} }

// append appends a line and returns all lines.
func (l *list) append(ctx context.Context, line string) ([]string, error) {
	lines, err := l.try(ctx, line)
	if err != nil && !errors.Is(err, errNoInstance) && !hangs(err) && ctx.Err() == nil {
		// memcached has restarted, and the kept connections are broken.
		l.mu.Lock()
		l.forget()
		l.mu.Unlock()
		lines, err = l.try(ctx, line)
	}
	return once(lines), err
}

func (l *list) try(ctx context.Context, line string) ([]string, error) {
	m, err := l.memcached(ctx)
	if err != nil {
		return nil, err
	}
	if err := push(m, line); err != nil {
		return nil, err
	}
	item, err := m.Get(listKey)
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSuffix(string(item.Value), "\n"), "\n")
	if len(lines) > longest {
		// If another service has changed the list, the next append finds it too long again.
		item.Value = []byte(strings.Join(lines[len(lines)-longest/2:], "\n") + "\n")
		_ = m.CompareAndSwap(item)
	}
	return lines, nil
}

func hangs(err error) bool {
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return true
	}
	_, ok := errors.AsType[*memcache.ConnectTimeoutError](err)
	return ok
}

// push appends the line to the list, or creates the list with it. It retries when another service
// has created the list, or memcached has evicted it, between the two commands.
func push(m *memcache.Client, line string) error {
	for {
		item := &memcache.Item{Key: listKey, Value: []byte(line + "\n")}
		if err := m.Append(item); !errors.Is(err, memcache.ErrNotStored) {
			return err
		}
		if err := m.Add(item); !errors.Is(err, memcache.ErrNotStored) {
			return err
		}
	}
}

// once omits repeated entries: a client posts an entry again to the next service if the answer of
// the first was lost.
func once(lines []string) []string {
	seen := make(map[string]bool, len(lines))
	kept := lines[:0]
	for _, line := range lines {
		posted, _, _ := strings.Cut(line, `,"service":`)
		if !seen[posted] {
			kept = append(kept, line)
		}
		seen[posted] = true
	}
	return kept
}

// memcached returns a client of the first memcached that Rollcall lists, so that all services use
// the same list.
func (l *list) memcached(ctx context.Context) (*memcache.Client, error) {
	addresses, err := l.found.find(ctx)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.addr != addresses[0] {
		l.forget()
		l.addr, l.client = addresses[0], memcache.New(addresses[0])
		l.client.Timeout = time.Second
		l.client.MaxIdleConns = 32
	}
	return l.client, nil
}

func (l *list) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forget()
}

func (l *list) forget() {
	if l.client != nil {
		_ = l.client.Close()
	}
	l.addr, l.client = "", nil
}
