package main

import (
	"math/rand/v2"
	"net/http"
	"net/http/httputil"
	"net/url"

	"github.com/redis/go-redis/v9"
)

// proxy sends each request to one of the backends that Redis has for its host.
func proxy(rdb *redis.Client) http.Handler {
	transport := &http.Transport{MaxIdleConnsPerHost: 256}
	forward := &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			list, _ := rdb.LRange(r.In.Context(), "frontend:"+r.In.Host, 0, -1).Result()
			if len(list) < 2 {
				return // there is no host to connect to: 502
			}
			if backend, err := url.Parse(list[1+rand.IntN(len(list)-1)]); err == nil {
				r.SetURL(backend)
				r.Out.Host = r.In.Host
			}
		},
	}
	return forward
}
