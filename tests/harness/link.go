package harness

import (
	"net"
	"sync"
	"testing"
)

// Link is the network between a client and a server: it relays TCP connections to an address,
// until it is cut or leads to another one. Its methods are safe for concurrent use.
type Link struct {
	l net.Listener

	mu    sync.RWMutex
	to    string
	cut   bool
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
	both.Go(func() { k.pump(to, from) })
	both.Go(func() { k.pump(from, to) })
	both.Wait()
}

// pump copies bytes from one side to the other. The end of one side reaches the other unless the link
// is cut.
func (k *Link) pump(to, from net.Conn) {
	piece := make([]byte, 32<<10)
	for {
		n, err := from.Read(piece)
		k.mu.RLock()
		switch {
		case k.cut:
		case err != nil:
			_ = to.Close()
			_ = from.Close()
		default:
			_, err = to.Write(piece[:n])
		}
		k.mu.RUnlock()
		if err != nil {
			return
		}
	}
}
