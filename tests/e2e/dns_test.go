package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rollcall/tests/harness"
)

// dnsProxy is a proxy that finds the instances of the service "web" by DNS, with a configuration of the
// documentation.
type dnsProxy struct {
	name    string   // of the program
	file    string   // in docker/
	addr    string   // where it listens, in the file
	command []string // the file is appended
}

var dnsProxies = []dnsProxy{
	{"haproxy", "haproxy-dns.cfg", "127.0.0.1:8001", []string{"haproxy", "-db", "-f"}},
	{"nginx", "nginx-dns.conf", "127.0.0.1:8002", []string{"nginx", "-g", "daemon off; master_process off; pid nginx.pid;", "-e", "stderr", "-p", ".", "-c"}},
	{"caddy", "Caddyfile.dns", ":8003", []string{"caddy", "run", "--adapter", "caddyfile", "--config"}},
}

// start runs the proxy on a free port, with a DNS server and a port of all instances, and returns its address.
func (p dnsProxy) start(t *testing.T, server, port string) string {
	t.Helper()
	harness.Need(t, p.name)
	text, err := os.ReadFile(filepath.Join("../../docker", p.file))
	if err != nil {
		t.Fatal(err)
	}
	listen := strconv.Itoa(harness.FreePort(t))
	host, _, _ := net.SplitHostPort(p.addr)
	config := strings.NewReplacer("127.0.0.1:8053", server, p.addr, host+":"+listen, "$backend:8080", "$backend:"+port).Replace(string(text))
	file := filepath.Join(t.TempDir(), p.file)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(p.command[0], append(p.command[1:], file)...)
	command.Env = []string{"HOME=" + t.TempDir()}
	command.Dir = t.TempDir()
	var log harness.Transcript
	command.Stdout, command.Stderr = &log, &log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		if t.Failed() {
			t.Logf("%s says:\n%s", p.name, harness.LastLines(log.String(), 20))
		}
	})
	return net.JoinHostPort("127.0.0.1", listen)
}

// TestProxiesFollowARollingReplacementByDNS replaces the instances of a service behind real proxies that find
// them by DNS. No request may fail, and a backend that dies gets no request once the proxy knows.
func TestProxiesFollowARollingReplacementByDNS(t *testing.T) {
	t.Parallel()
	dnsPort := strconv.Itoa(harness.FreePort(t))
	k := newStack(t, "ROLLCALL_DNS_PORT="+dnsPort)
	k.Process("cron")
	_, a := k.web()
	server := k.start("dns").Addr("dns")
	port := strconv.Itoa(harness.FreePort(t)) // nginx knows one port for all instances
	started := 0
	launch := func(fields ...string) *harness.Backend {
		t.Helper()
		started++
		b := harness.BackendAt(t, fmt.Sprintf("127.78.0.%d:%s", started, port))
		form := form("service", "web", "id", fmt.Sprint("r", started), "address", b.Addr, "health", "/", "interval", "500ms")
		for n := 0; n < len(fields); n += 2 {
			form.Add(fields[n], fields[n+1])
		}
		a.registerAndWait(form)
		return b
	}
	now := []*harness.Backend{launch(), launch()}

	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	defer load.Wait()
	defer cancel()
	visits := make([]atomic.Int64, len(dnsProxies))
	visitors := make([]visitor, len(dnsProxies))
	for n, p := range dnsProxies {
		visitors[n] = newVisitor(p.start(t, server, port))
		visitors[n].awaitVisit(t, "web.test", now...)
		load.Go(func() {
			for ctx.Err() == nil {
				status, body, err := visitors[n].visit(context.WithoutCancel(ctx), "web.test", "")
				if err != nil || status != http.StatusOK {
					t.Errorf("%s: at %s a visitor gets %d %.200s, %v", p.name, time.Now().Format(time.StampMilli), status, body, err)
				}
				visits[n].Add(1)
				time.Sleep(5 * time.Millisecond)
			}
		})
	}
	for n := range 2 {
		old := now[0]
		id := fmt.Sprint("r", n+1)
		now = append(now[1:], launch("replaces", id))
		a.awaitGone(id) // after the drain period of 5 s
		old.Is(harness.Refuses)
	}
	now[0].Is(harness.Refuses)
	for n, p := range dnsProxies {
		harness.Eventually(t, func() error {
			for range 4 {
				if status, body, err := visitors[n].visit(t.Context(), "web.test", ""); err != nil || status != http.StatusOK || body != now[1].Addr {
					return fmt.Errorf("%s: %d %s, %w", p.name, status, body, err)
				}
			}
			return nil
		})
		if got := visits[n].Load(); got < 100 {
			t.Errorf("%s: only %d visits were made", p.name, got)
		}
	}
}
