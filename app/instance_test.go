package app_test

import (
	"errors"
	"net"
	"net/url"
	"strings"
	"testing"
	"unicode"

	"rollcall/app"
)

func TestSlots(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		state    app.State
		weight   int
		override app.Override
		slots    int
		routable bool
	}{
		{app.Starting, 3, app.Override{}, 0, false},
		{app.Healthy, 3, app.Override{}, 3, true},
		{app.Unhealthy, 3, app.Override{}, 0, false},
		{app.Failed, 3, app.Override{}, 0, false},
		{app.Draining, 3, app.Override{}, 0, false},
		{app.Healthy, 3, app.Override{Weight: 1, Until: epoch}, 1, true},
		{app.Healthy, 3, app.Override{Maintenance: true, Until: epoch}, 0, false},
		{app.Healthy, 3, app.Override{Maintenance: true, Weight: 5, Until: epoch}, 0, false},
		{app.Unhealthy, 3, app.Override{Weight: 5, Until: epoch}, 0, false},
	} {
		i := app.Instance{State: c.state, Weight: c.weight, Override: c.override}
		if i.Slots() != c.slots || i.Routable() != c.routable {
			t.Errorf("%s, weight %d, %+v: %d slots, routable %t; want %d, %t",
				c.state, c.weight, c.override, i.Slots(), i.Routable(), c.slots, c.routable)
		}
	}
}

func TestMayStay(t *testing.T) {
	t.Parallel()
	mayStay := map[app.State]bool{
		app.Starting: false, app.Healthy: true, app.Unhealthy: true, app.Failed: false, app.Draining: true,
	}
	for state, want := range mayStay {
		i := app.Instance{State: state, FailOpen: true}
		if i.MayStay() != want {
			t.Errorf("%s: may stay %t, want %t", state, i.MayStay(), want)
		}
		i.Override.Weight = 5
		if i.MayStay() != want {
			t.Errorf("%s with another weight: may stay %t, want %t", state, i.MayStay(), want)
		}
		i.Override.Maintenance = true
		if i.MayStay() {
			t.Errorf("%s in maintenance may stay", state)
		}
		if i = (app.Instance{State: state}); i.MayStay() {
			t.Errorf("%s may stay without fail_open", state)
		}
	}
}

func TestTarget(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		address string
		port    int
		want    string
	}{
		{"10.0.0.7:8080", 0, "10.0.0.7:8080"},
		{"10.0.0.7:8080", 8081, "10.0.0.7:8081"},
		{"web:8080", 9090, "web:9090"},
		{"[2001:db8::7]:8080", 0, "[2001:db8::7]:8080"},
		{"[2001:db8::7]:8080", 1, "[2001:db8::7]:1"},
	} {
		i := app.Instance{Address: c.address, Check: app.Check{Port: c.port}}
		if got := i.Target(); got != c.want {
			t.Errorf("%s with port %d is probed at %s, want %s", c.address, c.port, got, c.want)
		}
		if got, want := i.URL(), "http://"+c.address; got != want {
			t.Errorf("URL is %s, want %s", got, want)
		}
	}
}

func TestTargetOfAnInvalidAddressPanics(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	_ = app.Instance{Address: "nowhere", Check: app.Check{Port: 1}}.Target()
}

func TestParseAddress(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 63)
	name253 := strings.Join([]string{long, long, long, long[:61]}, ".")
	for address, want := range map[string]string{
		"10.0.0.7:8080":               "10.0.0.7:8080",
		"10.0.0.7:1":                  "10.0.0.7:1",
		"10.0.0.7:65535":              "10.0.0.7:65535",
		"127.0.0.1:80":                "127.0.0.1:80", // Rules decide about loopback
		"[10.0.0.7]:80":               "10.0.0.7:80",
		"[::ffff:10.0.0.7]:80":        "10.0.0.7:80",
		"[::FFFF:0a00:0007]:80":       "10.0.0.7:80",
		"[2001:DB8:0:0:0:0:0:7]:80":   "[2001:db8::7]:80",
		"[2001:db8::10.0.0.7]:80":     "[2001:db8::a00:7]:80",
		"[::1]:80":                    "[::1]:80",
		"[fe80::1]:80":                "[fe80::1]:80",
		"web:80":                      "web:80",
		"[web]:80":                    "web:80",
		"Web-1.Internal:80":           "web-1.internal:80",
		"my_project_web_1:80":         "my_project_web_1:80",
		"_web:80":                     "_web:80",
		"3fa9c1d2e4b5:80":             "3fa9c1d2e4b5:80", // a container's host name
		"9e1:80":                      "9e1:80",
		"web.3scale:80":               "web.3scale:80",
		"1.2.3.4.example:80":          "1.2.3.4.example:80",
		"0x7f.example:80":             "0x7f.example:80",
		"xn--bcher-kva.example:80":    "xn--bcher-kva.example:80",
		long + ":80":                  long + ":80",
		name253 + ":80":               name253 + ":80",
		"deadbeef:80":                 "deadbeef:80",
		"e2e:80":                      "e2e:80",
		"a--b:80":                     "a--b:80",
		"host.docker.internal:8080":   "host.docker.internal:8080",
		"[0:0:0:0:0:0:0:1]:443":       "[::1]:443",
		"[64:ff9b::192.0.2.33]:65535": "[64:ff9b::c000:221]:65535",
	} {
		got, err := app.ParseAddress(address)
		if got != want || err != nil {
			t.Errorf("%q is %q, %v; want %q", address, got, err, want)
		}
		if again, err := app.ParseAddress(got); again != got || err != nil {
			t.Errorf("%q is %q the second time, %v", got, again, err)
		}
	}
}

func TestParseAddressRefuses(t *testing.T) {
	t.Parallel()
	const (
		form    = "is not host:port"
		port    = "has a port that is not a number from 1 to 65535"
		neither = "has a host that is neither an IP address nor a name"
		number  = "has a host that looks like a number but is not an IP address"
		nobody  = "is the unspecified address"
		many    = "is a multicast address"
		zone    = "has an IPv6 zone"
		scheme  = "has a scheme"
	)
	long := strings.Repeat("a", 63)
	for address, want := range map[string]string{
		"":                 form,
		":":                port,
		"10.0.0.7":         form,
		"web":              form,
		"::1":              form,
		"::1:80":           form,
		"2001:db8::7:8080": form,
		"[::1]":            form,
		"[::1]80":          form,
		"[::1:80":          form,
		"10.0.0.7:80:80":   form,
		"a:b@web:80":       form,

		"10.0.0.7:":                     port,
		"10.0.0.7:0":                    port,
		"10.0.0.7:70000":                port,
		"10.0.0.7:65536":                port,
		"10.0.0.7:00080":                port,
		"10.0.0.7:+80":                  port,
		"10.0.0.7:-80":                  port,
		"10.0.0.7:0x50":                 port,
		"10.0.0.7:8_0":                  port,
		"10.0.0.7: 80":                  port,
		"10.0.0.7:80 ":                  port,
		"10.0.0.7:80\r\n":               port,
		"10.0.0.7:http":                 port,
		"10.0.0.7:80/":                  port,
		"10.0.0.7:٨٠":                   port,
		"10.0.0.7:99999999999999999999": port,

		":80":                  neither,
		"[]:80":                neither,
		" web:80":              neither,
		"web :80":              neither,
		"web\r\nHost; evil:80": neither,
		"web\x00:80":           neither,
		"web\t:80":             neither,
		"web;2:80":             neither,
		"web,2:80":             neither,
		"user@web:80":          neither,
		"web/path:80":          neither,
		"web?q:80":             neither,
		"web#f:80":             neither,
		"web%41:80":            neither,
		"web\\x:80":            neither,
		"web.:80":              neither,
		".web:80":              neither,
		"a..b:80":              neither,
		".:80":                 neither,
		"-web:80":              neither,
		"web-:80":              neither,
		"a.-b.c:80":            neither,
		"*.web:80":             neither,
		"10.0.0.7.:80":         neither,
		"10.0.0.0/8:80":        neither,
		"1..2:80":              neither,
		"bücher.example:80":    neither,

		"\u212Aey:80":                       neither, // lower-cased by the book it would be "key"
		"\u0130d:80":                        neither,
		"１０.0.0.7:80":                       neither,
		"a。b:80":                            neither,
		"\xff:80":                           neither,
		"[fe80::1%]:80":                     neither,
		"10.0.0.7%eth0:80":                  neither,
		"[2001:db8::7::1]:80":               neither,
		"[2001:db8::12345]:80":              neither,
		long + "a:80":                       neither,
		strings.Repeat("a.", 127) + "aa:80": neither,
		"[::ffff:10.0.0.07]:80":             neither,
		"[::ffff:10.0.0.256]:80":            neither,
		"[1:2:3:4:5:6:7:8:9]:80":            neither,
		"2130706433:80":                     number,
		"017700000001:80":                   number,
		"0x7f000001:80":                     number,
		"0X7F000001:80":                     number,
		"0x:80":                             number,
		"010.0.0.1:80":                      number,
		"10.0.0.07:80":                      number,
		"0x7f.0.0.1:80":                     number,
		"127.0.0.0x1:80":                    number,
		"127.1:80":                          number,
		"127.0.1:80":                        number,
		"10.0.0.256:80":                     number,
		"10.0.0.7.8:80":                     number,
		"web.1:80":                          number,
		"0:80":                              number,

		"0.0.0.0:80":           nobody,
		"[::]:80":              nobody,
		"[0:0:0:0:0:0:0:0]:80": nobody,
		"[::ffff:0.0.0.0]:80":  nobody,

		"224.0.0.1:80":          many,
		"239.255.255.255:80":    many,
		"[ff02::1]:80":          many,
		"[::ffff:224.0.0.1]:80": many,

		"[fe80::1%eth0]:80":         zone,
		"[fe80::1%25eth0]:80":       zone,
		"[::1%1]:80":                zone,
		"[::ffff:10.0.0.7%eth0]:80": zone,
		"[fe80::1%\r\nx]:80":        zone,

		"http://10.0.0.7:80":  scheme,
		"https://10.0.0.7:80": scheme,
		"tcp://web:80":        scheme,
		"://:80":              scheme,
	} {
		got, err := app.ParseAddress(address)
		field, ok := errors.AsType[*app.FieldError](err)
		if !ok || got != "" {
			t.Errorf("%q is %q, %v; want an error of its field", address, got, err)
			continue
		}
		if field.Field != "address" || field.Problem != want || field.Want == "" {
			t.Errorf("%q: %s; want address %s", address, err, want)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, address := range []string{
		"10.0.0.7:8080", "[2001:db8::7]:80", "[::ffff:10.0.0.7]:80", "[fe80::1%eth0]:80", "web:80", "3fa9c1d2e4b5:80", "0x7f.1:80",
		"user@web:80", "web\r\n:80", "web;:80", "\u212Aey:80", "127.1:80", "[web]:80", "_web.a-b:65535", ":80", "[]:1", "http://web:80",
	} {
		f.Add(address)
	}
	f.Fuzz(func(t *testing.T, given string) {
		address, err := app.ParseAddress(given)
		if err != nil {
			if field, ok := errors.AsType[*app.FieldError](err); !ok || field.Field != "address" {
				t.Fatalf("%q: %v is not an error of the address", given, err)
			}
			return
		}
		if again, err := app.ParseAddress(address); again != address || err != nil {
			t.Errorf("%q is %q, and that is %q, %v", given, address, again, err)
		}
		if strings.ContainsFunc(address, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ';' || r == '@' || unicode.IsUpper(r) }) {
			t.Errorf("%q is %q", given, address)
		}
		if strings.ContainsFunc(given, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
			t.Errorf("%q, which is not plain ASCII, is %q", given, address)
		}
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatalf("%q is %q: %v", given, address, err)
		}
		u, err := url.Parse(app.Instance{Address: address}.URL())
		if err != nil {
			t.Fatalf("%q is %q: %v", given, address, err)
		}
		if u.Host != address || u.Hostname() != host || u.Port() != port || u.User != nil || u.Path != "" {
			t.Errorf("%q is %q, whose URL has the host %q", given, address, u.Host)
		}
	})
}
