package chaos

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rollcall/tests/harness"
)

// nameServer answers every question for an IPv4 address with 127.0.0.1, until it fails.
type nameServer struct {
	host    string
	fails   atomic.Int32
	queries atomic.Int64
}

// How a nameServer answers.
const (
	answers int32 = iota
	serverFailure
	silent
)

// newNameServer listens on port 53 of a loopback address of its own.
func newNameServer(t *testing.T) *nameServer {
	t.Helper()
	s := &nameServer{host: fmt.Sprintf("127.53.%d.53", os.Getpid()%120)}
	c, err := net.ListenPacket("udp", net.JoinHostPort(s.host, "53"))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		query := make([]byte, 1<<10)
		for {
			n, from, err := c.ReadFrom(query)
			if err != nil {
				return
			}
			s.queries.Add(1)
			if text := s.answer(query[:n]); text != nil {
				_, _ = c.WriteTo(text, from)
			}
		}
	}()
	t.Cleanup(func() {
		_ = c.Close()
		<-ended
	})
	return s
}

// answer is a message of RFC 1035 with the question of a query; nil for none.
func (s *nameServer) answer(query []byte) []byte {
	const header, typeA = 12, 1
	end := header
	for end < len(query) && query[end] != 0 { // the labels of the name
		end += 1 + int(query[end])
	}
	if end += 5; end > len(query) || s.fails.Load() == silent { // the last label, type and class
		return nil
	}
	text := append([]byte{}, query[:end]...)
	text[2], text[3] = 0x81, 0x80         // an answer, recursion available
	copy(text[6:header], make([]byte, 6)) // no records
	switch {
	case s.fails.Load() == serverFailure:
		text[3] |= 2
	case text[end-3] == typeA:
		text[7] = 1
		text = append(text, 0xc0, header, 0, typeA, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 1) // the same name, for 1 s
	}
	return text
}

// TestANameServerThatFailsRemovesNobody stops the worker's name server while the instances registered by
// name stay healthy. The worker still detects another instance that dies meanwhile.
func TestANameServerThatFailsRemovesNobody(t *testing.T) {
	t.Parallel()
	needsRoot(t, "unshare")
	if said, err := exec.Command("unshare", "--mount", "true").CombinedOutput(); err != nil { // root in a container
		t.Skipf("this machine lets root make no namespaces: %v: %s", err, said)
	}
	outage := 15 * time.Second
	if !all {
		outage = 6 * time.Second
	}
	names := newNameServer(t)
	resolv := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(resolv, []byte("nameserver "+names.host+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	w := &world{
		t: t, Stack: harness.NewStack(t, harness.StartRedis(t)), ends: t.Context(), webs: make([]*harness.Process, 1), bases: make([]string, 1),
		machine: harness.WatchStalls(t),
	}
	w.startWeb(0)
	w.Process("cron", "unshare", "--mount", "sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`, resolv)
	const named = 6
	for n := range named {
		id, service := fmt.Sprint("named", n), fmt.Sprint("names", n%2)
		w.must(http.MethodPost, "/v1/register", harness.Registration(harness.BackendAt(t, "127.0.0.1:0"), id, service+".chaos",
			"service", service, "address", id+".rollcall.test", "interval", interval.String(), "timeout", timeout.String(), "forget", "2s"))
	}
	plain := harness.NewBackend(t)
	w.must(http.MethodPost, "/v1/register", harness.Registration(plain, "plain", "plain.chaos", "service", "plain", "interval", interval.String(), "timeout", timeout.String()))
	harness.Eventually(t, func() error {
		for id, d := range w.stored() {
			if d.State != "healthy" {
				return fmt.Errorf("%s is %s", id, d.State)
			}
		}
		return nil
	})
	if names.queries.Load() < named {
		t.Fatalf("the name server was asked %d times: the worker has another one", names.queries.Load())
	}
	before := w.stream()
	picked := func() {
		for service := range 2 {
			path := fmt.Sprintf("/v1/services/names%d/pick", service)
			if status, body, err := w.callAt(t.Context(), w.bases[0], http.MethodGet, path, nil); err != nil || status != http.StatusOK || !strings.HasPrefix(body, "named") {
				t.Errorf("GET %s: %d %s, %v", path, status, body, err)
			}
		}
	}

	names.fails.Store(serverFailure)
	harness.Eventually(t, func() error { picked(); return w.happened(before, "name-server-failed") })
	for n, end := 0, time.Now().Add(outage); time.Now().Before(end); n++ {
		if n == 20 {
			names.fails.Store(silent)
		}
		picked()
		sleep(t.Context(), 100*time.Millisecond)
	}
	plain.Is(harness.Refuses)
	died := time.Now()
	harness.Eventually(t, func() error { picked(); return w.happened(before, "name-server-failed", "unhealthy") })
	if took, allowed := time.Since(died), detection+w.machine.Slack(); took > allowed {
		t.Errorf("the instance that died was found out after %s, want it within %s", took, allowed)
	}
	names.fails.Store(answers)
	harness.Eventually(t, func() error {
		picked()
		return w.happened(before, "name-server-failed", "unhealthy", "name-server-back")
	})
	for end := time.Now().Add(3 * interval); time.Now().Before(end); sleep(t.Context(), 100*time.Millisecond) {
		picked()
	}
	if err := w.happened(before, "name-server-failed", "unhealthy", "name-server-back"); err != nil {
		t.Error(err)
	}
	if said := w.stream()[len(before):]; said[1].Instance != "plain" {
		t.Errorf("%s was found to be dead, want plain", said[1].Instance)
	}
	w.audited()
}
