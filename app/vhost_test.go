package app_test

import (
	"errors"
	"strings"
	"testing"
	"unicode"

	"rollcall/app"
)

func TestNormalizeHost(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 63)
	name253 := strings.Join([]string{long, long, long, long[:61]}, ".")
	for host, want := range map[string]string{
		"shop.example.com":       "shop.example.com",
		"Shop.EXAMPLE.com":       "shop.example.com",
		"shop.example.com.":      "shop.example.com",
		"localhost":              "localhost",
		"a":                      "a",
		"1":                      "1",
		"10.0.0.7":               "10.0.0.7",
		"_dmarc.example.com":     "_dmarc.example.com",
		"my_shop":                "my_shop",
		"__pong__":               "__pong__",
		"__ping__.example.com":   "__ping__.example.com",
		"xn--bcher-kva.example":  "xn--bcher-kva.example",
		"XN--BCHER-KVA.example":  "xn--bcher-kva.example",
		"a.b.c.d.e.f.g.h":        "a.b.c.d.e.f.g.h", // only wildcards have a depth
		"*":                      "*",
		"*.com":                  "*.com",
		"*.Example.com.":         "*.example.com",
		"*.b.c.d.e.f":            "*.b.c.d.e.f",
		"*._tcp":                 "*._tcp",
		long + ".test":           long + ".test",
		name253:                  name253,
		name253 + ".":            name253,
		strings.ToUpper(name253): name253,
	} {
		got, err := app.NormalizeHost(host)
		if got != want || err != nil {
			t.Errorf("%q is %q, %v; want %q", host, got, err, want)
		}
	}
}

func TestNormalizeHostRefuses(t *testing.T) {
	t.Parallel()
	const (
		name  = "which is not a host name"
		port  = "and proxies look a vhost up without its port"
		url   = "which is a URL"
		ipv6  = "and proxies cannot look an IPv6 address up"
		ascii = "and proxies look up the ASCII form (xn--…)"
		ping  = "which the proxy answers by itself"
		depth = "and the proxy finds wildcards of at most 5 labels"
	)
	long := strings.Repeat("a", 63)
	for host, want := range map[string]string{
		"":                               name,
		".":                              name,
		"..":                             name,
		" ":                              name,
		"a..":                            name,
		".a":                             name,
		"a..b":                           name,
		" a.test":                        name,
		"a.test ":                        name,
		"a test":                         name,
		"a.test\r\n":                     name,
		"a.test\x00":                     name,
		"a\tb":                           name,
		"a\x7f":                          name,
		"-a.test":                        name,
		"a-.test":                        name,
		"a/b":                            name,
		"a,b":                            name,
		"a;b":                            name,
		"user@a.test":                    name,
		"a%2eb":                          name,
		"$HOST":                          name,
		"${HOST}":                        name,
		"[a]":                            name,
		"**":                             name,
		"**.a.test":                      name,
		"*a.test":                        name,
		"a.*":                            name,
		"a.*.test":                       name,
		"*.*":                            name,
		"*.*.test":                       name,
		"*.":                             name, // as "*." and a variable that is not set gives
		"*..":                            name,
		"*.a..b":                         name,
		"*.-a":                           name,
		long + "a":                       name,
		strings.Repeat("a.", 126) + "aa": name,

		"a.test:80":       port,
		"a.test:":         port,
		":80":             port,
		"*:80":            port,
		"*.a.test:80":     port,
		"http://a.test":   url,
		"http://a.test/x": url,
		"[::1]":           ipv6,
		"::1":             ipv6,

		"bücher.example":   ascii,
		"BÜCHER.example":   ascii,
		"*.bücher.example": ascii,
		"\u212A.test":      ascii, // the Kelvin sign, k in lower case
		"\u0130.test":      ascii, // İ, i in lower case
		"a。test":           ascii,
		"ａ.test":           ascii,
		"a\u200b.test":     ascii,
		"a\u00a0b":         ascii,
		"\xff.test":        ascii,
		"ü:80":             ascii,

		"__ping__":  ping,
		"__PING__":  ping,
		"__ping__.": ping,

		"*.a.b.c.d.e.f":   depth,
		"*.a.b.c.d.e.f.":  depth,
		"*.a.b.c.d.e.f.g": depth,
	} {
		got, err := app.NormalizeHost(host)
		field, ok := errors.AsType[*app.FieldError](err)
		if !ok || got != "" {
			t.Errorf("%q is %q, %v; want an error of its field", host, got, err)
			continue
		}
		if field.Field != "host" || !strings.HasSuffix(field.Problem, want) || field.Want == "" {
			t.Errorf("%q: %s; want host ... %s", host, err, want)
		}
		if len(field.Problem) > 500 {
			t.Errorf("%q: the answer has %d bytes", host, len(field.Problem))
		}
	}
}

func FuzzNormalizeHost(f *testing.F) {
	for _, host := range []string{
		"shop.example.com", "Shop.Example.COM.", "*", "*.", "*.a.test", "*.a.b.c.d.e.f", "a:80", "[::1]", "__ping__", "_a", "\u212A", "\u0130",
		"bücher", "\xff", "a\r\nb", "a\x00", "..", "-a", "a-", strings.Repeat("a.", 127),
	} {
		f.Add(host)
	}
	f.Fuzz(func(t *testing.T, given string) {
		host, err := app.NormalizeHost(given)
		if err != nil {
			if field, ok := errors.AsType[*app.FieldError](err); !ok || field.Field != "host" || host != "" {
				t.Fatalf("%q is %q, and %v is not an error of the host", given, host, err)
			}
			return
		}
		if again, err := app.NormalizeHost(host); again != host || err != nil {
			t.Errorf("%q is %q, and that is %q, %v", given, host, again, err)
		}
		if host == "" || host == "__ping__" || strings.HasSuffix(host, ".") ||
			strings.ContainsFunc(host, func(r rune) bool {
				return r == ':' || r >= 0x7f || unicode.IsUpper(r) || unicode.IsSpace(r) || unicode.IsControl(r)
			}) {
			t.Errorf("%q is %q", given, host)
		}
		ascii := !strings.ContainsFunc(given, func(r rune) bool { return r >= 0x80 })
		if !ascii || !strings.EqualFold(host, strings.TrimSuffix(given, ".")) {
			t.Errorf("%q is %q, which is another name", given, host)
		}
	})
}
