package edge_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"

	"rollcall/hipache/edge"
	"rollcall/tests/harness"
)

// BenchmarkEdge compares the edge with a minimal proxy that reads Redis: an httputil.ReverseProxy with
// one LRANGE per request, on the same connections.
func BenchmarkEdge(b *testing.B) {
	r := harness.StartRedis(b).Client(b)
	s := newStageOn(b, r, func(o *edge.Options) { o.Log = nil })
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello")
	}))
	b.Cleanup(backend.Close)
	s.frontend("www.a.test", backend.URL, backend.URL)

	transport := &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 256}
	b.Cleanup(transport.CloseIdleConnections)
	bare := httptest.NewServer(&httputil.ReverseProxy{
		Transport:  transport,
		BufferPool: &pool{},
		Rewrite: func(p *httputil.ProxyRequest) {
			list, err := r.LRange(p.In.Context(), s.keys.Frontend(p.In.Host), 0, -1).Result()
			if err != nil || len(list) == 0 {
				b.Error(list, err)
				return
			}
			u, _ := url.Parse(list[1])
			p.SetURL(u)
			p.Out.Host = p.In.Host
			p.SetXForwarded()
		},
	})
	b.Cleanup(bare.Close)

	for _, proxy := range []struct{ name, url string }{
		{"bare", bare.URL}, {"edge", "http://" + s.addr}, {"none", backend.URL}, // none: the cost of the benchmark itself
	} {
		b.Run(proxy.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					s.visit(b, proxy.url)
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
		})
	}
}

func (s *stage) visit(b *testing.B, url string) {
	r, _ := http.NewRequest(http.MethodGet, url, nil)
	r.Host = "www.a.test"
	res, err := s.client.Do(r)
	if err != nil {
		b.Error(err)
		return
	}
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		b.Error(res.Status)
	}
}

type pool struct{ sync.Pool }

func (p *pool) Get() []byte {
	if b, ok := p.Pool.Get().(*[]byte); ok {
		return *b
	}
	return make([]byte, 32<<10)
}

func (p *pool) Put(b []byte) { p.Pool.Put(&b) }
