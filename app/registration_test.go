package app_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"rollcall/app"
)

// registration is the least a container says, with a change.
func registration(change func(r *app.Registration)) app.Registration {
	r := app.Registration{Service: "web", Port: 8080, Caller: "10.0.0.7"}
	if change != nil {
		change(&r)
	}
	return r
}

func TestRegistration(t *testing.T) {
	t.Parallel()
	longHost := strings.Repeat("a.", 60) + "example"
	for name, c := range map[string]struct {
		says func(r *app.Registration)
		want func(i *app.Instance)
	}{
		"the least": {nil, nil},
		"everything": {
			func(r *app.Registration) {
				*r = app.Registration{
					Service: "shop", ID: "Shop_1.a", Boot: "b 1", Replaces: "Shop_0.a", Address: "10.0.0.8:81", Caller: "10.0.0.7",
					Hosts: []string{"Shop.Example.com.", "*.example.com"}, Health: ":82/up", Expect: []string{"200-204", "fine"},
					Weight: new(100), FailOpen: new(false), Tags: []string{"b", "a"}, Meta: map[string]string{"owner": "me"},
					Interval: new(time.Second), Timeout: new(2 * time.Second), Grace: new(time.Hour), Forget: new(time.Minute),
					Rise: new(100), Fall: new(1),
				}
			},
			func(i *app.Instance) {
				*i = app.Instance{
					ID: "Shop_1.a", Service: "shop", Address: "10.0.0.8:81", Hosts: []string{"*.example.com", "shop.example.com"},
					Weight: 100, Boot: "b 1", Replaces: "Shop_0.a", Tags: []string{"b", "a"}, Meta: map[string]string{"owner": "me"},
					Check: app.Check{
						Kind: app.HTTP, Port: 82, Path: "/up", Statuses: "200-204", Body: "fine",
						Interval: time.Second, Timeout: 2 * time.Second, Rise: 100, Fall: 1, Grace: time.Hour, Forget: time.Minute,
					},
				}
			},
		},

		"no id at an IPv6 address": {
			func(r *app.Registration) { r.Caller = "2001:db8::7" },
			func(i *app.Instance) { i.Address, i.ID = "[2001:db8::7]:8080", "web-2001-db8--7-8080" },
		},
		"no id at an address that has no number": {
			func(r *app.Registration) { r.Address = "Web.Local" },
			func(i *app.Instance) { i.Address, i.ID = "web.local:8080", "web-web.local-8080" },
		},
		"no id at a long name": {
			func(r *app.Registration) { r.Address = longHost },
			func(i *app.Instance) { i.Address, i.ID = longHost+":8080", "web-x3b9ac50ad837b4c9-8080" },
		},
		"id of 128": {
			func(r *app.Registration) { r.ID = strings.Repeat("x", 128) },
			func(i *app.Instance) { i.ID = strings.Repeat("x", 128) },
		},
		"service of 63": {
			func(r *app.Registration) { r.Service, r.ID = "0"+strings.Repeat(".", 62), "a" },
			func(i *app.Instance) { i.Service, i.ID = "0"+strings.Repeat(".", 62), "a" },
		},
		"20 vhosts": {
			func(r *app.Registration) { r.Hosts = hosts(20) },
			func(i *app.Instance) { i.Hosts = slices.Sorted(slices.Values(hosts(20))) },
		},
		"weight 1":  {func(r *app.Registration) { r.Weight = new(1) }, nil},
		"fail open": {func(r *app.Registration) { r.FailOpen = new(true) }, nil},

		"status": {
			func(r *app.Registration) { r.Health, r.Expect = "/", []string{"204"} },
			func(i *app.Instance) {
				i.Check = app.DefaultCheck(app.HTTP)
				i.Check.Statuses = "204"
			},
		},
		"text before status": {
			func(r *app.Registration) { r.Health, r.Expect = "/", []string{"ü", "200-599"} },
			func(i *app.Instance) {
				i.Check = app.DefaultCheck(app.HTTP)
				i.Check.Statuses, i.Check.Body = "200-599", "ü"
			},
		},
		"text of 4096": {
			func(r *app.Registration) { r.Health, r.Expect = "/", []string{strings.Repeat("x", 4096)} },
			func(i *app.Instance) {
				i.Check = app.DefaultCheck(app.HTTP)
				i.Check.Body = strings.Repeat("x", 4096)
			},
		},

		"shorter interval": { // the timeout goes with it
			func(r *app.Registration) { r.Interval = new(500 * time.Millisecond) },
			func(i *app.Instance) { i.Check.Interval, i.Check.Timeout = 500*time.Millisecond, 500*time.Millisecond },
		},
		"longer interval": {
			func(r *app.Registration) { r.Interval = new(time.Hour) },
			func(i *app.Instance) { i.Check.Interval = time.Hour },
		},
		"timeout beyond the interval": { // said so, so it is meant
			func(r *app.Registration) { r.Interval, r.Timeout = new(100*time.Millisecond), new(30*time.Second) },
			func(i *app.Instance) { i.Check.Interval, i.Check.Timeout = 100*time.Millisecond, 30*time.Second },
		},
		"shortest": {
			func(r *app.Registration) {
				r.Interval, r.Timeout, r.Grace, r.Forget = new(app.MinInterval), new(time.Millisecond), new(time.Millisecond), new(app.MinForget)
				r.Rise, r.Fall = new(1), new(1)
			},
			func(i *app.Instance) {
				i.Check = app.Check{
					Kind: app.TCP, Interval: 100 * time.Millisecond, Timeout: time.Millisecond, Grace: time.Millisecond, Forget: time.Second,
					Rise: 1, Fall: 1,
				}
			},
		},
		"longest": {
			func(r *app.Registration) {
				r.Interval, r.Timeout, r.Grace, r.Forget = new(app.MaxInterval), new(app.MaxTimeout), new(app.MaxGrace), new(app.MaxForget)
				r.Rise, r.Fall = new(app.MaxStreak), new(app.MaxStreak)
			},
			func(i *app.Instance) {
				i.Check = app.Check{
					Kind: app.TCP, Interval: time.Hour, Timeout: 30 * time.Second, Grace: 24 * time.Hour, Forget: 720 * time.Hour,
					Rise: 100, Fall: 100,
				}
			},
		},
		"parts of a millisecond": {
			func(r *app.Registration) {
				r.Interval, r.Timeout = new(1500*time.Millisecond+900*time.Microsecond), new(1999*time.Microsecond)
				r.Grace, r.Forget = new(time.Second+1), new(time.Minute+1)
			},
			func(i *app.Instance) {
				i.Check.Interval, i.Check.Timeout = 1500*time.Millisecond, time.Millisecond
				i.Check.Grace, i.Check.Forget = time.Second, time.Minute
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := app.Instance{
				ID: "web-10.0.0.7-8080", Service: "web", Address: "10.0.0.7:8080", Weight: 1, FailOpen: true, Check: app.DefaultCheck(app.TCP),
			}
			if c.want != nil {
				c.want(&want)
			}
			got, _, err := registration(c.says).Instance()
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func hosts(n int) []string {
	var names []string
	for k := range n {
		names = append(names, fmt.Sprintf("h%d.example", k))
	}
	return names
}

func TestRegistrationAddress(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		address string
		port    int
		caller  string
		want    string
		source  app.AddressSource
	}{
		{"", 8080, "10.0.0.7", "10.0.0.7:8080", app.AddressFromCaller},
		{"", 8080, "::ffff:10.0.0.7", "10.0.0.7:8080", app.AddressFromCaller},
		{"", 8080, "2001:db8::7", "[2001:db8::7]:8080", app.AddressFromCaller},
		{"10.0.0.8:81", 0, "10.0.0.7", "10.0.0.8:81", app.AddressGiven},
		{"10.0.0.8:81", 81, "10.0.0.7", "10.0.0.8:81", app.AddressGiven},
		{"10.0.0.8", 81, "10.0.0.7", "10.0.0.8:81", app.AddressGiven},
		{"10.0.0.8:81", 0, "", "10.0.0.8:81", app.AddressGiven},
		{"Web", 81, "", "web:81", app.AddressGiven},
		{"2001:db8::7", 81, "", "[2001:db8::7]:81", app.AddressGiven},
		{"[2001:db8::7]", 81, "", "[2001:db8::7]:81", app.AddressGiven},
		{"[2001:db8::7]:81", 81, "", "[2001:db8::7]:81", app.AddressGiven},
		{"[2001:db8::7]:81", 0, "", "[2001:db8::7]:81", app.AddressGiven},
		{"fd00::1:81", 81, "", "[fd00::1:81]:81", app.AddressGiven}, // an address without a port, although its end looks like one
	} {
		got, source, err := app.Registration{Service: "web", Address: c.address, Port: c.port, Caller: c.caller}.Instance()
		if got.Address != c.want || source != c.source || err != nil {
			t.Errorf("address %q, port %d, caller %q: %q from %q, %v; want %q from %q",
				c.address, c.port, c.caller, got.Address, source, err, c.want, c.source)
		}
	}
}

func TestRegistrationRefuses(t *testing.T) {
	t.Parallel()
	const (
		service  = "1 to 63 lower-case letters, digits, hyphens, dots or underscores"
		id       = "1 to 128 letters, digits, hyphens, dots or underscores"
		ports    = "a number from 1 to 65535"
		hostPort = "host:port"
		host     = "shop.example.com, *.example.com or *"
		health   = "/path, :port/path"
		expect   = "give statuses (200, 200,204, 200-299,401 or 2xx) and text of the body, each at most once"
		utf8     = "in UTF-8"
		streak   = "a number from 1 to 100"
		interval = "a duration from 100ms to 1h"
		timeout  = "a duration from 1ms to 30s"
		grace    = "a duration up to 24h"
		forget   = "a duration from 1s to 720h"
	)
	long := strings.Repeat("x", 129)
	type reg = app.Registration
	for _, c := range []struct {
		says    func(r *reg)
		field   string
		problem string
		want    string // a part of the field error's Want
	}{
		{func(r *reg) { r.Service = "" }, "service", "is missing", service},
		{func(r *reg) { r.Service = "Web" }, "service", `is "Web"`, service},
		{func(r *reg) { r.Service = "-web" }, "service", `is "-web"`, service},
		{func(r *reg) { r.Service = ".web" }, "service", `is ".web"`, service},
		{func(r *reg) { r.Service = "_web" }, "service", `is "_web"`, service},
		{func(r *reg) { r.Service = "web 1" }, "service", `is "web 1"`, service},
		{func(r *reg) { r.Service = "web/1" }, "service", `is "web/1"`, service},
		{func(r *reg) { r.Service = "web:1" }, "service", `is "web:1"`, service},
		{func(r *reg) { r.Service = "web\n" }, "service", `is "web\n"`, service},
		{func(r *reg) { r.Service = "wéb" }, "service", `is "wéb"`, service},
		{func(r *reg) { r.Service = "\u212A" }, "service", "is \"\u212A\"", service},
		{func(r *reg) { r.Service = "web\xff" }, "service", `is "web\xff"`, service},
		{func(r *reg) { r.Service = long[:64] }, "service", `is "` + long[:64] + `"`, service},
		{func(r *reg) { r.Service = strings.Repeat(" ", 1000) }, "service", `is "` + strings.Repeat(" ", 80) + `"`, service},

		{func(r *reg) { r.ID = "-a" }, "id", `is "-a"`, id},
		{func(r *reg) { r.ID = "a b" }, "id", `is "a b"`, id},
		{func(r *reg) { r.ID = "a/b" }, "id", `is "a/b"`, id},
		{func(r *reg) { r.ID = "a:b" }, "id", `is "a:b"`, id},
		{func(r *reg) { r.ID = "a\r\n" }, "id", `is "a\r\n"`, id},
		{func(r *reg) { r.ID = "é" }, "id", `is "é"`, id},
		{func(r *reg) { r.ID = ".." }, "id", `is ".."`, id},
		{func(r *reg) { r.ID = long }, "id", `is "` + long[:80] + `"`, id},

		{func(r *reg) { r.Replaces = "-a" }, "replaces", `is "-a"`, id},
		{func(r *reg) { r.Replaces = "a b" }, "replaces", `is "a b"`, id},
		{func(r *reg) { r.Replaces = long }, "replaces", `is "` + long[:80] + `"`, id},
		{func(r *reg) { r.ID, r.Replaces = "a", "a" }, "replaces", "is the instance's own id", "the id of the instance to take over from"},
		{func(r *reg) { r.Replaces = "web-10.0.0.7-8080" }, "replaces", "is the instance's own id", "the id of the instance to take over from"},

		{func(r *reg) { r.Port = 0 }, "port", "is missing", "address as host:port"},
		{func(r *reg) { r.Port = -1 }, "port", "is -1", ports},
		{func(r *reg) { r.Port = 70000 }, "port", "is 70000", ports},
		{func(r *reg) { r.Port, r.Address = 65536, "10.0.0.7" }, "port", "is 65536", ports},
		{func(r *reg) { r.Address = "10.0.0.7:81" }, "port", "is 8080, but address names port 81", "the port once"},
		{func(r *reg) { r.Address = "[::1]:81" }, "port", "is 8080, but address names port 81", "the port once"},
		{func(r *reg) { r.Caller = "" }, "address", "is missing, and the call did not come over IP", hostPort},
		{func(r *reg) { r.Caller = "fe80::1%eth0" }, "address", "has an IPv6 zone", "on every machine"},
		{func(r *reg) { r.Caller = "@" }, "address", "has a host that is neither an IP address nor a name", "an IP address or a host name"},
		{func(r *reg) { r.Port, r.Address = 0, "10.0.0.7" }, "address", "is not host:port", hostPort},
		{func(r *reg) { r.Port, r.Address = 0, "10.0.0.7:00080" }, "address", "has a port that is not a number from 1 to 65535", hostPort},
		{func(r *reg) { r.Port, r.Address = 80, "10.0.0.7:080" }, "address", "has a port that is not a number from 1 to 65535", hostPort},
		{func(r *reg) { r.Port, r.Address = 0, "http://10.0.0.7:80" }, "address", "has a scheme", hostPort},
		{func(r *reg) { r.Address = "http://10.0.0.7:80" }, "address", "has a scheme", hostPort},
		{func(r *reg) { r.Address = "http://10.0.0.7" }, "address", "has a scheme", hostPort},
		{func(r *reg) { r.Address = "0.0.0.0" }, "address", "is the unspecified address", "that others reach it at"},
		{func(r *reg) { r.Address = "ff02::1" }, "address", "is a multicast address", "an IP address or a host name"},
		{func(r *reg) { r.Address = "[fe80::1%eth0]:8080" }, "address", "has an IPv6 zone", "on every machine"},
		{func(r *reg) { r.Address = "0x7f000001" }, "address", "has a host that looks like a number but is not an IP address", "an IP address or a host name"},
		{func(r *reg) { r.Address = "a b" }, "address", "has a host that is neither an IP address nor a name", "an IP address or a host name"},
		{func(r *reg) { r.Address = "a\r\nb" }, "address", "has a host that is neither an IP address nor a name", "an IP address or a host name"},

		{func(r *reg) { r.Hosts = []string{""} }, "host", `is "", which is not a host name`, host},
		{func(r *reg) { r.Hosts = []string{"a.test", "b/c"} }, "host", `is "b/c", which is not a host name`, host},
		{func(r *reg) { r.Hosts = []string{"a.test:80"} }, "host", `is "a.test:80", and proxies look a vhost up without its port`, host},
		{func(r *reg) { r.Hosts = []string{"bücher.test"} }, "host", `is "bücher.test", and proxies look up the ASCII form (xn--…)`, host},
		{func(r *reg) { r.Hosts = []string{"__ping__"} }, "host", "is __ping__, which the proxy answers by itself", host},
		{func(r *reg) { r.Hosts = []string{"*.a.b.c.d.e.f"} }, "host", `is "*.a.b.c.d.e.f", and the proxy finds wildcards of at most 5 labels`, host},
		{func(r *reg) { r.Hosts = []string{"a.test", "A.test."} }, "host", `names "a.test" twice`, "every vhost once"},
		{func(r *reg) { r.Hosts = hosts(21) }, "host", "is given 21 times", "at most 20"},

		{func(r *reg) { r.Health = "healthz" }, "health", `is "healthz"`, health},
		{func(r *reg) { r.Health = "/a b" }, "health", "contains a space, a control character or a character outside ASCII", health},
		{func(r *reg) { r.Health = "/" + strings.Repeat("a", 512) }, "health", "is longer than 512 characters", health},
		{func(r *reg) { r.Health = "/a#b" }, "health", "has a fragment", "leave out # and the text after it"},
		{func(r *reg) { r.Health = "/%" }, "health", `is "/%", which is not a path`, "a path such as /healthz"},
		{func(r *reg) { r.Health = "ftp://10.0.0.7/" }, "health", `has the scheme "ftp"`, "http or https"},
		{func(r *reg) { r.Health = "http://a:b@10.0.0.7/" }, "health", "has a user name or password", "leave them out"},
		{func(r *reg) { r.Health = "http://10.0.0.7:0/" }, "health", `has the port "0"`, "a port from 1 to 65535"},
		{func(r *reg) { r.Health = "http://10.0.0.8/" }, "health", `has the host "10.0.0.8"`, "here 10.0.0.7; give only :port/path"},
		{func(r *reg) { r.Health = "http://" }, "health", `is "http://", which is not a URL`, "a path such as /healthz"},

		{func(r *reg) { r.Expect = []string{"200"} }, "expect", "goes with an http check only", "give health as a path"},
		{func(r *reg) { r.Health, r.Expect = "heartbeat", []string{""} }, "expect", "goes with an http check only", "give health as a path"},
		{func(r *reg) { r.Health, r.Expect = "/", []string{""} }, "expect", "is empty", expect},
		{func(r *reg) { r.Health, r.Expect = "/", []string{"200", "204"} }, "expect", "is given twice", expect},
		{func(r *reg) { r.Health, r.Expect = "/", []string{"fine", "good"} }, "expect", "is given twice", expect},
		{func(r *reg) { r.Health, r.Expect = "/", []string{strings.Repeat("x", 4097)} }, "expect", "is longer than the 4096 bytes of the body that are looked at", "a shorter text"},
		{func(r *reg) { r.Health, r.Expect = "/", []string{"fine\xff"} }, "expect", "is not text in UTF-8", utf8},

		{func(r *reg) { r.Weight = new(0) }, "weight", "is 0", "a number from 1 to 100"},
		{func(r *reg) { r.Weight = new(-1) }, "weight", "is -1", "a number from 1 to 100"},
		{func(r *reg) { r.Weight = new(101) }, "weight", "is 101", "a number from 1 to 100"},

		{func(r *reg) { r.Boot = "\xff" }, "boot", "is not text in UTF-8", utf8},
		{func(r *reg) { r.Tags = []string{"a", "\xff"} }, "tag", "is not text in UTF-8", utf8},
		{func(r *reg) { r.Meta = map[string]string{"\xff": "a"} }, "meta", "is not text in UTF-8", utf8},
		{func(r *reg) { r.Meta = map[string]string{"a": "b", "owner": "\xff"} }, "meta.owner", "is not text in UTF-8", utf8},

		{func(r *reg) { r.Interval = new(time.Duration(0)) }, "interval", "is 0s", interval},
		{func(r *reg) { r.Interval = new(-time.Second) }, "interval", "is -1s", interval},
		{func(r *reg) { r.Interval = new(100*time.Millisecond - 1) }, "interval", "is 99ms", interval},
		{func(r *reg) { r.Interval = new(time.Hour + time.Millisecond) }, "interval", "is 1h0m0.001s", interval},
		{func(r *reg) { r.Timeout = new(time.Duration(0)) }, "timeout", "is 0s", timeout},
		{func(r *reg) { r.Timeout = new(999 * time.Microsecond) }, "timeout", "is 0s", timeout}, // in whole milliseconds
		{func(r *reg) { r.Timeout = new(-time.Second) }, "timeout", "is -1s", timeout},
		{func(r *reg) { r.Timeout = new(31 * time.Second) }, "timeout", "is 31s", timeout},
		{func(r *reg) { r.Grace = new(time.Duration(0)) }, "grace", "is 0s", grace},
		{func(r *reg) { r.Grace = new(-time.Minute) }, "grace", "is -1m0s", grace},
		{func(r *reg) { r.Grace = new(25 * time.Hour) }, "grace", "is 25h0m0s", grace},
		{func(r *reg) { r.Forget = new(time.Duration(0)) }, "forget", "is 0s", forget},
		{func(r *reg) { r.Forget = new(999 * time.Millisecond) }, "forget", "is 999ms", forget},
		{func(r *reg) { r.Forget = new(721 * time.Hour) }, "forget", "is 721h0m0s", forget},
		{func(r *reg) { r.Rise = new(0) }, "rise", "is 0", streak},
		{func(r *reg) { r.Rise = new(-1) }, "rise", "is -1", streak},
		{func(r *reg) { r.Rise = new(101) }, "rise", "is 101", streak},
		{func(r *reg) { r.Fall = new(0) }, "fall", "is 0", streak},
		{func(r *reg) { r.Fall = new(-1) }, "fall", "is -1", streak},
		{func(r *reg) { r.Fall = new(101) }, "fall", "is 101", streak},
	} {
		r := registration(c.says)
		i, source, err := r.Instance()
		field, ok := errors.AsType[*app.FieldError](err)
		if !ok || !errors.Is(err, app.ErrInvalid) || errors.Is(err, app.ErrConflict) {
			t.Errorf("%s %s: %v, want an invalid field", c.field, c.problem, err)
			continue
		}
		if field.Field != c.field || field.Problem != c.problem || !strings.Contains(field.Want, c.want) {
			t.Errorf("%v\n\twant %s %s; ... %s", err, c.field, c.problem, c.want)
		}
		if diff := cmp.Diff(app.Instance{}, i); diff != "" || source != "" {
			t.Errorf("%v, but also an instance from %q (-want +got):\n%s", err, source, diff)
		}
	}
}

func TestAnInstanceSharesNoMemoryWithItsRegistration(t *testing.T) {
	t.Parallel()
	r := registration(func(r *app.Registration) {
		r.Hosts, r.Tags, r.Meta = []string{"b.test", "a.test"}, []string{"t"}, map[string]string{"k": "v"}
	})
	i, _, err := r.Instance()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(r.Hosts, []string{"b.test", "a.test"}) {
		t.Errorf("the registration's vhosts are %q now", r.Hosts)
	}
	r.Hosts[0], r.Hosts[1], r.Tags[0], r.Meta["k"] = "x", "x", "x", "x"
	if !slices.Equal(i.Hosts, []string{"a.test", "b.test"}) || i.Tags[0] != "t" || !maps.Equal(i.Meta, map[string]string{"k": "v"}) {
		t.Errorf("the instance follows its registration: %q %q %v", i.Hosts, i.Tags, i.Meta)
	}
}

func TestDefaultIDs(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := app.Registration{
			Service: rapid.StringMatching(`[a-z0-9][a-z0-9._-]{0,62}`).Draw(t, "service"),
			Address: rapid.StringMatching(`[a-z]([a-z0-9-]{0,60}[a-z])?(\.[a-z]{1,63}){0,2}`).Draw(t, "host"),
			Port:    rapid.IntRange(1, 65535).Draw(t, "port"),
		}
		i, _, err := r.Instance()
		if err != nil {
			t.Fatal(err)
		}
		if len(i.ID) > 128 {
			t.Errorf("the id %s has %d bytes", i.ID, len(i.ID))
		}
		r.ID = i.ID
		if again, _, err := r.Instance(); again.ID != i.ID || err != nil {
			t.Errorf("the id %s cannot be given: %v", i.ID, err)
		}
		r.ID, r.Address = "", "x"+r.Address
		if other, _, err := r.Instance(); err == nil && other.ID == i.ID {
			t.Errorf("%s and %s have the same id %s", i.Address, other.Address, i.ID)
		}
	})
}
