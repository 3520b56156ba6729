package edge_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"rollcall/hipache"
	"rollcall/hipache/edge"
	"rollcall/tests/harness"
)

// patience is how long a test waits for an expected event. It decides no other result.
const patience = 10 * time.Second

// stage is an edge that serves, on a Redis of the test's choice.
type stage struct {
	testing.TB
	redis  *redis.Client
	keys   hipache.Keys
	edge   *edge.Edge
	addr   string
	client *http.Client // follows no redirects, reuses connections
}

// newStage serves on the shared Redis.
func newStage(t testing.TB, set ...func(*edge.Options)) *stage {
	t.Helper()
	return newStageOn(t, harness.SharedRedis(t), set...)
}

func newStageOn(t testing.TB, r *redis.Client, set ...func(*edge.Options)) *stage {
	t.Helper()
	keys := hipache.Keys{Prefix: harness.Prefix(t)}
	o := edge.Options{
		Redis: r, Keys: keys, Debug: true, Grace: patience,
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
		// Long, so that a busy machine does not look like an outage.
		DialTimeout: patience, RedisTimeout: patience,
	}
	for _, f := range set {
		f(&o)
	}
	e, err := edge.New(o)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background()) //nolint:usetesting // it ends with the stage
	served := make(chan error, 1)
	go func() { served <- e.Serve(ctx, l) }()
	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 100}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		stop()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
		e.Close()
	})
	return &stage{TB: t, redis: r, keys: keys, edge: e, addr: l.Addr().String(), client: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// serveAnother serves another edge on the same Redis and sends later requests to it, until
// stop. served receives the error of Serve.
func (s *stage) serveAnother(o edge.Options) (stop func(), served <-chan error) {
	s.Helper()
	o.Redis, o.Keys = s.redis, s.keys
	e, err := edge.New(o)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(e.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.Fatal(err)
	}
	s.addr = l.Addr().String()
	ctx, stop := context.WithCancel(s.Context())
	result := make(chan error, 1)
	go func() { result <- e.Serve(ctx, l) }()
	return stop, result
}

// frontend stores a list: the host as its identifier, then the entries.
func (s *stage) frontend(host string, entries ...string) {
	s.Helper()
	list := []any{"id of " + host}
	for _, e := range entries {
		list = append(list, e)
	}
	if err := s.redis.RPush(s.Context(), s.keys.Frontend(host), list...).Err(); err != nil {
		s.Fatal(err)
	}
}

func (s *stage) marks(host string) string {
	s.Helper()
	got, err := s.redis.SMembers(s.Context(), s.keys.Dead(host)).Result()
	if err != nil {
		s.Fatal(err)
	}
	return strings.Join(got, ",")
}

// answer is a response and its body.
type answer struct {
	*http.Response
	body string
}

func (s *stage) do(method, host, path string, body io.Reader, header ...string) answer {
	s.Helper()
	r, err := http.NewRequestWithContext(s.Context(), method, "http://"+s.addr+path, body)
	if err != nil {
		s.Fatal(err)
	}
	r.Host = host
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	res, err := s.client.Do(r)
	if err != nil {
		s.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		s.Fatal(err)
	}
	return answer{res, string(text)}
}

func (s *stage) get(host string, header ...string) answer {
	s.Helper()
	return s.do(http.MethodGet, host, "/", nil, header...)
}

// raw sends bytes that an http.Client cannot send, and returns the connection and its reader.
func (s *stage) raw(text string) (net.Conn, *bufio.Reader) {
	s.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, text); err != nil {
		s.Fatal(err)
	}
	return c, bufio.NewReader(c)
}

func (s *stage) status(text string) int {
	s.Helper()
	_, r := s.raw(text)
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		s.Fatal(err)
	}
	_ = res.Body.Close()
	return res.StatusCode
}

// announcements returns the announcements of a host on the dead channel.
func (s *stage) announcements(host string) <-chan string {
	s.Helper()
	sub := s.redis.Subscribe(s.Context(), hipache.DeadChannel)
	if _, err := sub.Receive(s.Context()); err != nil {
		s.Fatal(err)
	}
	heard := make(chan string, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for m := range sub.Channel() {
			if strings.HasPrefix(m.Payload, host+";") {
				heard <- m.Payload
			}
		}
	}()
	s.Cleanup(func() {
		_ = sub.Close()
		<-done
	})
	return heard
}

// silent fails the test if a host has been announced.
func (s *stage) silent(host string, heard <-chan string) {
	s.Helper()
	last := host + ";the end"
	if err := s.redis.Publish(s.Context(), hipache.DeadChannel, last).Err(); err != nil {
		s.Fatal(err)
	}
	if got := <-heard; got != last {
		s.Errorf("heard %q, want no announcement", got)
	}
}
