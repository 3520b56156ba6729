package boot

import (
	"context"
	"fmt"
	"net"
	"time"

	mdns "github.com/miekg/dns"

	"rollcall/app/dns"
)

// defaultDNSPort is the port of rollcall dns: port 53 needs root, and 5353 is multicast DNS.
const defaultDNSPort = 8053

// maxDNSTTL bounds how long clients may keep the address of a dead instance.
const maxDNSTTL = time.Hour

// checkDNS returns an error that names the first bad variable of DNS.
func (c Config) checkDNS() error {
	if _, ok := mdns.IsDomainName(c.DNSZone); !ok || c.DNSZone == "." {
		return fmt.Errorf("config: ROLLCALL_DNS_ZONE (%s) must be a domain name, such as rollcall or sd.example.net", c.DNSZone)
	}
	if c.DNSTTL < time.Second || c.DNSTTL > maxDNSTTL || c.DNSTTL%time.Second != 0 {
		return fmt.Errorf("config: ROLLCALL_DNS_TTL (%s) must be whole seconds from 1s to %s", c.DNSTTL, maxDNSTTL)
	}
	return nil
}

// dnsSockets are a UDP socket and a TCP listener on one port.
type dnsSockets struct {
	udp net.PacketConn
	tcp net.Listener
}

// listenDNS binds the sockets of DNS.
func (p *Process) listenDNS() error {
	port := defaultDNSPort
	if p.config.DNSPort != nil {
		port = *p.config.DNSPort
	}
	const tries = 20 // a port that is free for TCP may be in use for UDP
	for try := 1; ; try++ {
		tcp, err := p.listen("ROLLCALL_DNS_PORT", port)
		if err != nil {
			return err
		}
		_, chosen, _ := net.SplitHostPort(tcp.Addr().String())
		udp, err := net.ListenPacket("udp", net.JoinHostPort(p.config.Bind.String(), chosen)) //nolint:noctx // binding does not wait
		if err == nil {
			p.closers = append(p.closers, func() { _ = udp.Close() })
			p.dns = &dnsSockets{udp, tcp}
			return nil
		}
		if port != 0 || try == tries {
			return fmt.Errorf("ROLLCALL_DNS_PORT: %w (set ROLLCALL_DNS_PORT to another port than %d)", err, port)
		}
		_ = tcp.Close()
	}
}

// serveDNS answers queries until the context ends.
func (p *Process) serveDNS(ctx context.Context) error {
	p.log.InfoContext(ctx, "dns is up", "addr", p.dns.tcp.Addr().String(), "zone", p.config.DNSZone)
	return dns.New(p.replica, p.config.DNSZone, p.config.DNSTTL, p.log).Serve(ctx, p.dns.udp, p.dns.tcp)
}
