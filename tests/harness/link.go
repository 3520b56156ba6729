package harness

import (
	"net"
	"sync"
	"testing"
	"time"
)

// Link is the network between a client and a server: it relays TCP connections to an address,
// until it is cut or leads to another one. Its methods are safe for concurrent use.
type Link struct {
	l net.Listener

	mu    sync.RWMutex
	to    string
	cut   bool
	late  time.Duration // of replies
	conns []net.Conn
}

// NewLink returns a link to an address, such as Server.Addr. It is closed when the test ends.
func NewLink(t testing.TB, to string) *Link {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k := &Link{l: l, to: to}
	var relaying sync.WaitGroup
	relaying.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			relaying.Go(func() { k.relay(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		k.Lead(to)
		relaying.Wait()
	})
	return k
}

// Addr is the address of the link: host:port.
func (k *Link) Addr() string { return k.l.Addr().String() }

// Cut makes the link drop all bytes in both directions. Connections stay open. When Cut returns, no
// further byte passes.
func (k *Link) Cut() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.cut = true
}

// Lead closes all connections, and relays new ones to an address. It ends a Cut.
func (k *Link) Lead(to string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.conns {
		_ = c.Close()
	}
	k.to, k.cut, k.conns = to, false, nil
}

// Delay makes later replies of the server late by a time.
func (k *Link) Delay(by time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.late = by
}

func (k *Link) lateness() time.Duration {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.late
}

func (k *Link) relay(from net.Conn) {
	k.mu.Lock()
	k.conns = append(k.conns, from)
	to, err := net.Dial("tcp", k.to)
	if err == nil {
		k.conns = append(k.conns, to)
	}
	k.mu.Unlock()
	if err != nil {
		_ = from.Close()
		return
	}
	var both sync.WaitGroup
	both.Go(func() { k.pump(to, from, func() time.Duration { return 0 }) })
	both.Go(func() { k.pump(from, to, k.lateness) })
	both.Wait()
}

// piece is what was read at once, with its time of delivery.
type piece struct {
	text []byte
	due  time.Time
	err  error
}

// pump copies bytes from one side to the other. The end of one side reaches the other unless the link
// is cut.
func (k *Link) pump(to, from net.Conn, late func() time.Duration) {
	pieces := make(chan piece, 1024)
	go func() {
		defer close(pieces)
		for {
			text := make([]byte, 16<<10)
			n, err := from.Read(text)
			pieces <- piece{text[:n], time.Now().Add(late()), err}
			if err != nil {
				return
			}
		}
	}()
	for p := range pieces {
		time.Sleep(time.Until(p.due))
		k.mu.RLock()
		if !k.cut {
			_, err := to.Write(p.text)
			if p.err != nil || err != nil {
				_ = to.Close()
				_ = from.Close()
			}
		}
		k.mu.RUnlock()
	}
}
