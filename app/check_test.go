package app_test

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rollcall/app"
)

var kinds = []app.Kind{app.HTTP, app.TCP, app.GRPC, app.Memcached, app.Redis, app.Heartbeat, app.None}

func TestDefaultCheck(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds {
		want := app.Check{
			Kind: kind, Interval: 2 * time.Second, Timeout: time.Second, Rise: 2, Fall: 2,
			Grace: time.Minute, Forget: 10 * time.Minute,
		}
		switch kind {
		default:
		case app.HTTP:
			want.Path, want.Statuses = "/", "200-399"
		case app.Heartbeat:
			want.Interval, want.Rise = 5*time.Second, 1
		}
		if diff := cmp.Diff(want, app.DefaultCheck(kind)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", kind, diff)
		}
	}
}

func TestProbedAndLease(t *testing.T) {
	t.Parallel()
	for kind, want := range map[app.Kind]struct {
		probed bool
		lease  time.Duration
	}{
		app.HTTP: {true, 0}, app.TCP: {true, 0}, app.GRPC: {true, 0}, app.Memcached: {true, 0}, app.Redis: {true, 0},
		app.Heartbeat: {false, 11 * time.Second}, app.None: {false, 0},
	} {
		c := app.DefaultCheck(kind)
		if c.Probed() != want.probed || c.Lease() != want.lease {
			t.Errorf("%s: probed %t, lease %s; want %t, %s", kind, c.Probed(), c.Lease(), want.probed, want.lease)
		}
	}
}

func TestParseHealth(t *testing.T) {
	t.Parallel()
	type check struct {
		kind app.Kind
		port int
		path string
	}
	longest := "/" + strings.Repeat("a", 511)
	for _, c := range []struct {
		health, address string
		want            check
	}{
		{"", "10.0.0.7:8080", check{app.TCP, 0, ""}},
		{"tcp", "10.0.0.7:8080", check{app.TCP, 0, ""}},
		{"tcp:1", "10.0.0.7:8080", check{app.TCP, 1, ""}},
		{"tcp:65535", "10.0.0.7:8080", check{app.TCP, 65535, ""}},
		{"grpc", "10.0.0.7:8080", check{app.GRPC, 0, ""}},
		{"grpc:9090", "10.0.0.7:8080", check{app.GRPC, 9090, ""}},
		{"memcached", "10.0.0.7:11211", check{app.Memcached, 0, ""}},
		{"memcached:11212", "10.0.0.7:11211", check{app.Memcached, 11212, ""}},
		{"redis", "10.0.0.7:6379", check{app.Redis, 0, ""}},
		{"redis:6380", "10.0.0.7:6379", check{app.Redis, 6380, ""}},
		{"heartbeat", "10.0.0.7:8080", check{app.Heartbeat, 0, ""}},
		{"none", "10.0.0.7:8080", check{app.None, 0, ""}},

		{"/", "10.0.0.7:8080", check{app.HTTP, 0, "/"}},
		{"/healthz?full=1&a=b", "10.0.0.7:8080", check{app.HTTP, 0, "/healthz?full=1&a=b"}},
		{"/a%20b%0d%0a", "10.0.0.7:8080", check{app.HTTP, 0, "/a%20b%0d%0a"}},
		{"/%41", "10.0.0.7:8080", check{app.HTTP, 0, "/%41"}},
		{"/x?to=http://example.com/", "10.0.0.7:8080", check{app.HTTP, 0, "/x?to=http://example.com/"}},
		{"//example.com/x", "10.0.0.7:8080", check{app.HTTP, 0, "//example.com/x"}}, // a path all the same
		{"/../x", "10.0.0.7:8080", check{app.HTTP, 0, "/../x"}},
		{"/?", "10.0.0.7:8080", check{app.HTTP, 0, "/?"}},
		{longest, "10.0.0.7:8080", check{app.HTTP, 0, longest}},

		{":8081/", "10.0.0.7:8080", check{app.HTTP, 8081, "/"}},
		{":8081/healthz?a=/b", "10.0.0.7:8080", check{app.HTTP, 8081, "/healthz?a=/b"}},
		{":8081//x", "10.0.0.7:8080", check{app.HTTP, 8081, "//x"}},
		{":8081/x?to=http://example.com", "10.0.0.7:8080", check{app.HTTP, 8081, "/x?to=http://example.com"}},

		{"http://10.0.0.7:8080/healthz", "10.0.0.7:8080", check{app.HTTP, 8080, "/healthz"}},
		{"http://10.0.0.7:8081/healthz?a=b", "10.0.0.7:8080", check{app.HTTP, 8081, "/healthz?a=b"}},
		{"HTTP://10.0.0.7/x", "10.0.0.7:8080", check{app.HTTP, 80, "/x"}},
		{"http://10.0.0.7", "10.0.0.7:8080", check{app.HTTP, 80, "/"}},
		{"http://10.0.0.7?a=b", "10.0.0.7:8080", check{app.HTTP, 80, "/?a=b"}},
		{"http://10.0.0.7//evil.example/", "10.0.0.7:8080", check{app.HTTP, 80, "//evil.example/"}},
		{"http://10.0.0.7/%2e%2e/a%2Fb", "10.0.0.7:8080", check{app.HTTP, 80, "/%2e%2e/a%2Fb"}},
		{"http://10.0.0.7/\"", "10.0.0.7:8080", check{app.HTTP, 80, "/%22"}},
		{"http://[::ffff:10.0.0.7]:81/", "10.0.0.7:8080", check{app.HTTP, 81, "/"}},
		{"http://[2001:DB8:0::7]:81/", "[2001:db8::7]:8080", check{app.HTTP, 81, "/"}},
		{"http://[::1]/", "[::1]:8080", check{app.HTTP, 80, "/"}},
		{"http://WEB-1:81/x", "web-1:8080", check{app.HTTP, 81, "/x"}},
	} {
		want := app.DefaultCheck(c.want.kind)
		want.Port, want.Path = c.want.port, c.want.path
		got, err := app.ParseHealth(c.health, c.address)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%q at %s: %v (-want +got):\n%s", c.health, c.address, err, diff)
		}
	}
}

func TestParseHealthOverTLS(t *testing.T) {
	t.Parallel()
	type check struct {
		port       int
		path, name string
	}
	for _, c := range []struct {
		health, address string
		want            check
	}{
		{"https:/healthz?a=b", "10.0.0.7:8080", check{0, "/healthz?a=b", ""}},
		{"https:/x?to=http://example.com/", "10.0.0.7:8080", check{0, "/x?to=http://example.com/", ""}},
		{"https:8443/", "10.0.0.7:8080", check{8443, "/", ""}},
		{"https://10.0.0.7/x", "10.0.0.7:8080", check{443, "/x", ""}},
		{"HTTPS://10.0.0.7:8443", "10.0.0.7:8080", check{8443, "/", ""}},
		{"https://Web.test:8443/x", "web.test:8080", check{8443, "/x", "web.test"}},
	} {
		want := app.DefaultCheck(app.HTTP)
		want.TLS, want.Port, want.Path, want.ServerName = true, c.want.port, c.want.path, c.want.name
		got, err := app.ParseHealth(c.health, c.address)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%q at %s: %v (-want +got):\n%s", c.health, c.address, err, diff)
		}
	}
}

func TestParseHealthOfGRPC(t *testing.T) {
	t.Parallel()
	type check struct {
		tls     bool
		port    int
		service string
	}
	for health, c := range map[string]check{
		"grpc":                  {},
		"grpc:9090":             {false, 9090, ""},
		"grpc:orders":           {false, 0, "orders"},
		"grpc:shop.v1.Orders":   {false, 0, "shop.v1.Orders"},
		"grpc:9090/orders":      {false, 9090, "orders"},
		"grpc:/1st":             {false, 0, "1st"},
		"grpc:/a/b":             {false, 0, "a/b"},
		"grpcs":                 {true, 0, ""},
		"grpcs:9090":            {true, 9090, ""},
		"grpcs:orders":          {true, 0, "orders"},
		"grpcs:9090/shop.Order": {true, 9090, "shop.Order"},
	} {
		want := app.DefaultCheck(app.GRPC)
		want.TLS, want.Port, want.GRPCService = c.tls, c.port, c.service
		got, err := app.ParseHealth(health, "10.0.0.7:80")
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%q: %v (-want +got):\n%s", health, err, diff)
		}
	}
}

func TestParseHealthRefuses(t *testing.T) {
	t.Parallel()
	const (
		ascii    = "contains a space, a control character or a character outside ASCII"
		fragment = "has a fragment"
		user     = "has a user name or password"
	)
	for health, want := range map[string]string{
		"/" + strings.Repeat("a", 512): "is longer than 512 characters",

		" ":                      ascii,
		" /healthz":              ascii,
		"/health z":              ascii,
		"/healthz\r\nHost: x":    ascii,
		"/healthz\n":             ascii,
		"/\x00":                  ascii,
		"/\x7f":                  ascii,
		"/ü":                     ascii,
		"/\xff":                  ascii,
		"http://10.0.0.7/a b":    ascii,
		"http://10.0.0.7/\r\nX:": ascii,
		"http://１0.0.0.7/":       ascii,
		"tcp:8081 ":              ascii,

		"TCP":            `is "TCP"`,
		"Http":           `is "Http"`,
		"http":           `is "http"`,
		"http:8081":      `is "http:8081"`,
		"https":          `is "https"`,
		"https:":         `is "https:"`,
		"https:8443":     `is "https:8443"`,
		"https::8443/":   `is "https::8443/"`,
		"https:0/":       `is "https:0/"`,
		"HTTPS:/":        `is "HTTPS:/"`,
		"udp":            `is "udp"`,
		"healthz":        `is "healthz"`,
		"10.0.0.7":       `is "10.0.0.7"`,
		"10.0.0.7:81/x":  `is "10.0.0.7:81/x"`,
		"?a":             `is "?a"`,
		"#":              `is "#"`,
		"tcp/8081":       `is "tcp/8081"`,
		"http:/10.0.0.7": `is "http:/10.0.0.7"`,
		":":              `is ":"`,
		":8081":          `is ":8081"`,
		":/healthz":      `is ":/healthz"`,
		":0/healthz":     `is ":0/healthz"`,
		":00080/healthz": `is ":00080/healthz"`,
		":70000/healthz": `is ":70000/healthz"`,
		":80a/healthz":   `is ":80a/healthz"`,
		":8081?/x":       `is ":8081?/x"`,
		"::1/healthz":    `is "::1/healthz"`,

		"heartbeat:1": `is "heartbeat:1", and heartbeat has no port`,
		"none:":       `is "none:", and none has no port`,
		"tcp:":        `is "tcp:": the port is not a number from 1 to 65535`,
		"tcp:0":       `is "tcp:0": the port is not a number from 1 to 65535`,
		"tcp:08081":   `is "tcp:08081": the port is not a number from 1 to 65535`,
		"grpc:70000":  `is "grpc:70000": the port is not a number from 1 to 65535`,
		"grpc:":       `is "grpc:": the port is not a number from 1 to 65535`,
		"grpcs:0":     `is "grpcs:0": the port is not a number from 1 to 65535`,
		"grpc:/":      `is "grpc:/": the port is not a number from 1 to 65535`,
		"grpc:1st":    `is "grpc:1st": the port is not a number from 1 to 65535`,
		"grpc:9090/":  `is "grpc:9090/": the name of a gRPC service has letters, digits and ._-/ only`,
		"grpc:a:b":    `is "grpc:a:b": the name of a gRPC service has letters, digits and ._-/ only`,
		"grpc:a?b":    `is "grpc:a?b": the name of a gRPC service has letters, digits and ._-/ only`,
		"grpcs/a":     `is "grpcs/a"`,
		"redis:1:2":   `is "redis:1:2": the port is not a number from 1 to 65535`,
		"memcached:x": `is "memcached:x": the port is not a number from 1 to 65535`,

		"/healthz#top":               fragment,
		"/#":                         fragment,
		":8081/x#":                   fragment,
		"http://10.0.0.7/x#top":      fragment,
		"/%":                         `is "/%", which is not a path`,
		"/%zz":                       `is "/%zz", which is not a path`,
		":8081/%4":                   `is "/%4", which is not a path`,
		"http://10.0.0.7/%zz":        `is "http://10.0.0.7/%zz", which is not a URL`,
		"http://":                    `is "http://", which is not a URL`,
		"http:///healthz":            `is "http:///healthz", which is not a URL`,
		"http:x://10.0.0.7":          `is "http:x://10.0.0.7", which is not a URL`,
		"://10.0.0.7":                `is "://10.0.0.7"`,
		"http://10.0.0.7:x/":         `is "http://10.0.0.7:x/", which is not a URL`,
		"http://[::1/":               `is "http://[::1/", which is not a URL`,
		"http://%31%30.0.0.7/":       `is "http://%31%30.0.0.7/", which is not a URL`,
		"ftp://10.0.0.7/":            `has the scheme "ftp"`,
		"https://10.0.0.8/":          `has the host "10.0.0.8"`,
		"https://a@10.0.0.7/":        user,
		"tcp://10.0.0.7:81":          `has the scheme "tcp"`,
		"file://10.0.0.7/etc/passwd": `has the scheme "file"`,
		"http://a@10.0.0.7/":         user,
		"http://a:b@10.0.0.7/":       user,
		"http://@10.0.0.7/":          user,
		"http://10.0.0.7@evil.test/": user,
		"http://10.0.0.7:0/":         `has the port "0"`,
		"http://10.0.0.7:00080/":     `has the port "00080"`,
		"http://10.0.0.7:70000/":     `has the port "70000"`,

		"http://10.0.0.8/":               `has the host "10.0.0.8"`,
		"http://169.254.169.254/latest":  `has the host "169.254.169.254"`,
		"http://10.0.0.7.evil.test/":     `has the host "10.0.0.7.evil.test"`,
		"http://evil.test/10.0.0.7":      `has the host "evil.test"`,
		"http://10.0.0.7.:80/":           `has the host "10.0.0.7."`,
		"http://10.0.0.07/":              `has the host "10.0.0.07"`,
		"http://167772167/":              `has the host "167772167"`,
		"http://0x0a000007/":             `has the host "0x0a000007"`,
		"http://012.0.0.7/":              `has the host "012.0.0.7"`,
		"http://10.7/":                   `has the host "10.7"`,
		"http://:80/":                    `has the host ""`,
		"http://[::a00:7]/":              `has the host "::a00:7"`,
		"http://[::ffff:10.0.0.8]/":      `has the host "::ffff:10.0.0.8"`,
		"http://[::ffff:10.0.0.7%25e]/x": `has the host "::ffff:10.0.0.7%e"`,
		"http://0.0.0.0/":                `has the host "0.0.0.0"`,
	} {
		check, err := app.ParseHealth(health, "10.0.0.7:8080")
		field, ok := errors.AsType[*app.FieldError](err)
		if !ok || check != (app.Check{}) {
			t.Errorf("%q is %+v, %v; want an error of its field", health, check, err)
			continue
		}
		if field.Field != "health" || field.Problem != want || field.Want == "" {
			t.Errorf("%q: %s; want health %s", health, err, want)
		}
	}
}

func FuzzParseHealth(f *testing.F) {
	addresses := []string{"10.0.0.7:8080", "[2001:db8::7]:80", "web-1.internal:80"}
	for n, health := range []string{
		"", "/", "/healthz?full=1", "//evil.test/x", "/\r\nHost: evil", "/a#b", "/%zz", ":8081/x", ":/x", "tcp", "tcp:8081", "grpc:0",
		"heartbeat", "none", "http://10.0.0.7:81/x?y", "http://10.0.0.7@evil.test/", "http://evil.test\\@10.0.0.7/", "HTTP://WEB-1.internal",
		"http://[2001:DB8::7]:81", "http://[fe80::1%25eth0]/", "http://10.0.0.7//evil.test", "x://y", "http:x://y", "http://%31/", "/\u212A",
	} {
		f.Add(health, addresses[n%len(addresses)])
	}
	f.Fuzz(func(t *testing.T, health, given string) {
		address, err := app.ParseAddress(given)
		if err != nil {
			address = addresses[len(given)%len(addresses)]
		}
		check, err := app.ParseHealth(health, address)
		if err != nil {
			if field, ok := errors.AsType[*app.FieldError](err); !ok || field.Field != "health" {
				t.Fatalf("%q at %s: %v is not an error of the health field", health, address, err)
			}
			return
		}
		if check.Port < 0 || check.Port > 65535 {
			t.Errorf("%q at %s has the port %d", health, address, check.Port)
		}
		own, _, _ := net.SplitHostPort(address)
		target := app.Instance{Address: address, Check: check}.Target()
		if host, _, err := net.SplitHostPort(target); host != own || err != nil {
			t.Errorf("%q at %s is probed at %s, %v", health, address, target, err)
		}
		if check.Kind != app.HTTP {
			if check.Path != "" {
				t.Errorf("%q at %s is a %s check with the path %q", health, address, check.Kind, check.Path)
			}
			return
		}
		if !strings.HasPrefix(check.Path, "/") || strings.ContainsFunc(check.Path, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == '#' }) {
			t.Errorf("%q at %s has the path %q", health, address, check.Path)
		}
		if strings.HasPrefix(health, "/") || strings.HasPrefix(health, ":") {
			return
		}
		u, err := url.Parse(health)
		if err != nil {
			t.Fatalf("%q at %s: %v", health, address, err)
		}
		host := u.Hostname()
		if ip, err := netip.ParseAddr(host); err == nil {
			host = ip.Unmap().String()
		}
		if !strings.EqualFold(host, own) || u.User != nil {
			t.Errorf("%q at %s is on another host", health, address)
		}
	})
}
