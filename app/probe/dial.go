package probe

import (
	"context"
	"net"
	"net/netip"
	"time"
)

const (
	// maxAddresses is the number of a name's addresses that a probe tries.
	maxAddresses = 8
	// headStart is the time after which a connection attempt gets company from the next address
	// (RFC 8305, section 5).
	headStart = 250 * time.Millisecond
)

// connect connects to target, a host and a port. If a name has several addresses, the first one
// that accepts counts. The next attempt starts when an attempt fails, or after a head start that
// leaves time for all addresses before the deadline. net.Dialer gives the first address at least
// 2 s, which is longer than most probes. The error is that of the first failed attempt.
func (p *Prober) connect(ctx context.Context, target string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(target)
	if _, notAddress := netip.ParseAddr(host); err != nil || notAddress == nil {
		return p.dialer.DialContext(ctx, "tcp", target)
	}
	addresses, err := p.dialer.Resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err}
	}
	addresses = addresses[:min(len(addresses), maxAddresses)]
	pause := headStart
	if deadline, ok := ctx.Deadline(); ok {
		pause = min(pause, time.Until(deadline)/time.Duration(len(addresses)))
	}
	return p.race(ctx, addresses, port, pause)
}

type attempt struct {
	conn net.Conn
	err  error
}

// race returns the first connection to one of the addresses. There must be at least one
// address. race returns after all attempts have ended.
func (p *Prober) race(ctx context.Context, addresses []netip.Addr, port string, pause time.Duration) (winner net.Conn, first error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan attempt)
	next := time.NewTimer(0)
	defer next.Stop()
	for underWay := 0; underWay > 0 || (winner == nil && len(addresses) > 0); {
		select {
		case <-next.C:
			if winner != nil || len(addresses) == 0 {
				continue
			}
			target := net.JoinHostPort(addresses[0].Unmap().String(), port)
			addresses = addresses[1:]
			underWay++
			go func() {
				c, err := p.dialer.DialContext(ctx, "tcp", target)
				ended <- attempt{c, err}
			}()
			next.Reset(pause)
		case a := <-ended:
			underWay--
			switch {
			case a.err != nil:
				if first == nil {
					first = a.err
				}
				next.Reset(0)
			case winner != nil:
				a.conn.Close()
			default:
				winner = a.conn
				cancel()
			}
		}
	}
	if winner != nil {
		return winner, nil
	}
	return nil, first
}
