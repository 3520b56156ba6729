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
	// longest is how many entries the list may have before its older half is dropped:
	// all of it is read for every answer.
	longest = 400
)

// list is the list in memcached, one entry per line, and shared by all services:
// whatever is done to it has to be one atomic command.
type list struct {
	found *finder

	mu     sync.Mutex // guards what follows
	addr   string
	client *memcache.Client
}

func newList(f *finder) *list { return &list{found: f} }

// append appends a line and returns all lines.
func (l *list) append(ctx context.Context, line string) ([]string, error) {
	lines, err := l.try(ctx, line)
	if err != nil && !errors.Is(err, errNobody) && !hangs(err) && ctx.Err() == nil {
		// memcached has been restarted, and kept connections are none any more.
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
		// When another service was faster, the next append finds the list too long again.
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

// push adds the line to the list, or begins the list with it. Both fail when another
// service or memcached's memory has just made them the wrong one of the two.
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

// once leaves out entries that a client posted again to the next service because the
// first could not say that it had taken them.
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

// memcached returns a client of the memcached that Rollcall knows: the first, if there
// are several, so that all services have the same list.
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
